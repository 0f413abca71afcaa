"""One process at a time: a file that is locked as long as its holder lives."""

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


@contextlib.contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold a lock file alone; wait for a process that holds it, naming it.

    The file is removed in the end, so that no folder keeps one; that of a killed process stays,
    held by nobody, for the next one. A process that holds it must not ask again: it would wait for
    itself.

    Yields:
        Whether another process was waited for: it may have finished the work.
    """
    waited = False
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+") as lock:
            waited |= _wait(lock)
            if not is_at(path, lock):
                continue  # its holder removed it while we waited: this one locks nobody out
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            try:
                yield waited
            finally:
                path.unlink(missing_ok=True)
            return


def is_free(lock: TextIO) -> bool:
    """Take the lock of an open file if nobody holds it, and say whether it was taken."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(lock: TextIO) -> bool:
    """Take the lock of an open file; say whether that meant waiting."""
    if is_free(lock):
        return False
    lock.seek(0)
    sys.stderr.write(f"waiting for process {lock.read().strip()}, which does this work\n")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return True


def is_at(path: Path, lock: TextIO) -> bool:
    """Tell whether an open file is still the one at its path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(lock.fileno()))
    except FileNotFoundError:
        return False
