"""Scratch folders: where killed work goes on, one process at a time."""

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.data import files


def key(described: object, inputs: Iterable[Path], code: Iterable[Path]) -> str:
    """Name a run's scratch folder by all that its result depends on.

    Args:
        described: the run's settings, as JSON can hold them.
        inputs: files and folders the run reads; absent ones count as such.
        code: files and folders of source code.
    """
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode())
    for path in inputs:
        digest.update(files.sha256(path).encode() if path.exists() else b"absent")
    sources = (root.rglob("*.py") if root.is_dir() else [root] for root in code)
    for path in sorted(itertools.chain.from_iterable(sources)):
        digest.update(files.sha256(path).encode())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold a scratch folder alone; wait for a process that still works in it.

    Yields:
        Whether another process was waited for: it may have finished the work.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    waited = False
    with folder.with_name(f"{folder.name}.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            sys.stderr.write(f"waiting for process {lock.read().strip()}, which does this work\n")
            fcntl.flock(lock, fcntl.LOCK_EX)
            waited = True
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield waited


def clear(folder: Path) -> None:
    """Remove a scratch folder; its lock file stays, for whoever may wait at it."""
    shutil.rmtree(folder, ignore_errors=True)


def sweep(root: Path) -> None:
    """Remove all scratch, unless somebody works there: once all is done nothing goes on from it."""
    with contextlib.ExitStack() as held:
        for lock in root.rglob("*.lock"):
            opened = held.enter_context(lock.open("a+"))
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
        clear(root)
