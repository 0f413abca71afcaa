"""Files that are either whole or absent, and the stop that tells a user what to mend."""

import contextlib
import errno
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.data import locks

FULL = (errno.ENOSPC, errno.EDQUOT)  # of an OSError: no room is left on a disk, or for its user
# In what CUDA, cuBLAS, cuDNN and, on a CPU, torch say.
SHORT = ("out of memory", "ALLOC_FAILED", "ALLOCATION_FAILED", "can't allocate memory")
FULL_IN_RUST = tuple(f"(os error {code})" for code in FULL)  # as polars and safetensors say it

# One of these is in every folder that a stage writes again, so that no other is taken for one.
OURS = (
    "Source_datasets/harbor/oracle.json", "sequences.npy", "rows.npy", "card.json", "encoder.json",
    "open_clip_config.json", "passport.json", "search.csv", "run.json", "evaluation.json",
    "report.md",
)  # fmt: skip
SHOWN = 5  # names in a message


class Stop(Exception):  # noqa: N818  # not a defect of the program: the user's input can't be used
    """A stop with a message for the user: what, where, which value, the rule and the fix."""


def is_full(error: BaseException | None) -> bool:
    """Tell whether an error, or one that it came of, is that no room is left on a disk."""
    while error is not None:
        is_of_system = isinstance(error, OSError) and error.errno in FULL
        if is_of_system or any(words in str(error) for words in FULL_IN_RUST):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_short_of_memory(error: BaseException) -> bool:
    """Tell whether an error is that memory is too small, as Python, NumPy, torch or CUDA say it."""
    is_named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return is_named or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in SHORT)
    )


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_json(path: Path, content: Any) -> None:  # noqa: ANN401  # whatever JSON can hold
    """Write JSON with sorted keys, so that equal contents are equal bytes.

    Raises:
        ValueError: a number is NaN or infinite, which JSON has no word for.
    """
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:  # noqa: ANN401  # whatever JSON can hold
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextlib.contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """Give a folder to write in that takes the place of `out` at success and vanishes otherwise.

    A process that writes the same folder is waited for, so that what it was started for, perhaps
    with other settings, never comes last. Where one was killed, its folder vanishes when the next
    one comes.

    Raises:
        Stop: `out` holds what no stage has written, which would be lost.
    """
    with locks.held(out.with_name(f".{out.name}.lock")):
        check_ours(out)
        for left in out.parent.glob(f".{glob.escape(out.name)}.*.part"):
            if not is_alive(int(left.name.split(".")[-2])):
                shutil.rmtree(left, ignore_errors=True)
        part = out.with_name(f".{out.name}.{os.getpid()}.part")
        former = out.with_name(f".{out.name}.former.{os.getpid()}.part")  # whole until it goes
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            yield part
            check_ours(out)  # meanwhile another may have been written in it
            if out.exists():
                out.replace(former)
            part.replace(out)
        finally:
            shutil.rmtree(part, ignore_errors=True)
            shutil.rmtree(former, ignore_errors=True)


def check_ours(out: Path) -> None:
    """See that what stands where a folder is to be written is one that a stage has written.

    Raises:
        Stop: it is a file, or a folder that holds something else.
    """
    if out.exists() and not out.is_dir():
        raise Stop(f"{out} is a file, and a folder is to be written there; name another")
    found = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if found and not any((out / name).exists() for name in OURS):
        more = ", ..." if len(found) > SHOWN else ""
        raise Stop(
            f"{out} holds {', '.join(found[:SHOWN])}{more}, which no stage has written and which "
            "would be lost; name a folder that is not there yet, or remove this one"
        )


def is_alive(process: int) -> bool:
    """Tell whether a process of this number runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return True


def sha256(path: Path) -> str:
    """Hash a file's bytes, or a folder's sorted relative names and their files' bytes."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\0".encode())
        return digest.hexdigest()
    with path.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
