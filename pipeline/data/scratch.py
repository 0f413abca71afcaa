"""Scratch folders: where killed work goes on, one process at a time."""

import contextlib
import hashlib
import itertools
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from pipeline.data import files, locks


def key(described: object, state: str) -> str:
    """Name a run's scratch folder by all that its result depends on.

    Args:
        described: the run's settings, as JSON can hold them.
        state: of what it reads and is made by.
    """
    text = json.dumps([described, state], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def state(inputs: Iterable[Path], code: Iterable[Path]) -> str:
    """Hash what a run reads, and the code that it is made by.

    Args:
        inputs: files and folders the run reads; absent ones count as such.
        code: files and folders of source code.
    """
    digest = hashlib.sha256()
    for path in inputs:
        digest.update(files.sha256(path).encode() if path.exists() else b"absent")
    sources = (root.rglob("*.py") if root.is_dir() else [root] for root in code)
    for path in sorted(itertools.chain.from_iterable(sources)):
        digest.update(files.sha256(path).encode())
    return digest.hexdigest()[:16]


def locked(folder: Path) -> contextlib.AbstractContextManager[bool]:
    """Hold a scratch folder alone; wait for a process that still works in it.

    Returns:
        A context that gives whether another process was waited for: it may have finished the work.
    """
    return locks.held(_lock(folder))


def is_done(key: str, out: Path, cost: Path) -> bool:
    """Tell whether a result and its cost are there, and of the work that `key` stands for."""
    return out.exists() and cost.exists() and files.read_json(cost).get("key") == key


def clear(folder: Path) -> None:
    """Remove a scratch folder."""
    shutil.rmtree(folder, ignore_errors=True)


def drop(folder: Path) -> bool:
    """Remove a scratch folder unless somebody works in it; say whether it was removed."""
    path = _lock(folder)
    with path.open("a+") as lock:
        if not locks.is_free(lock) or not locks.is_at(path, lock):
            return False
        clear(folder)
        path.unlink()
    return True


def sweep(root: Path) -> None:
    """Remove all scratch, unless somebody works there: once all is done nothing goes on from it."""
    with contextlib.ExitStack() as held:
        for path in root.rglob("*.lock"):
            if not locks.is_free(held.enter_context(path.open("a+"))):
                return
        clear(root)


def _lock(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
