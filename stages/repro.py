"""Command `repro`: `dvc repro`, after a killed one too. No stage of the flow.

`kill -9` of `dvc repro` leaves its lock behind, held by nobody, and perhaps half-written; the
stage it had started lives on, and its successor waits for it by itself.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline import command
from pipeline.data import scratch

LOCK = Path(".dvc/tmp/rwlock")


def is_alive(pid: int) -> bool:
    """Say whether a process of this id runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def holders(text: str) -> set[int]:
    """Read the process ids out of DVC's lock file.

    It holds {"read": {path: [{"pid": id}]}, "write": {path: {"pid": id}}}.

    Raises:
        ValueError: it is not whole.
    """
    content = json.loads(text)
    readers = [one for many in content.get("read", {}).values() for one in many]
    return {int(one["pid"]) for one in [*readers, *content.get("write", {}).values()]}


def unlock(lock: Path) -> bool:
    """Remove DVC's lock file if nobody holds it; say whether it was removed."""
    if not lock.exists():
        return False
    try:
        alive = sorted(pid for pid in holders(lock.read_text()) if is_alive(pid))
    except (ValueError, KeyError, TypeError, AttributeError):
        alive = []  # cut off while it was written
    if alive:
        typer.echo(f"repro: process {alive} holds {lock}; dvc will wait or say so", err=True)
        return False
    lock.unlink()
    typer.echo(f"repro: removed {lock}, left by a killed process", err=True)
    return True


def main(
    scratch_root: Annotated[
        Path, typer.Option("--scratch", help="checkpoints, of no use once all stages are done")
    ],
    targets: Annotated[list[str] | None, typer.Argument(help="stages; all of them if none")] = None,
) -> None:
    """Run what params.yaml, code and data ask for, and go on where a killed run stopped."""
    unlock(LOCK)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", *(targets or [])],
        env={**os.environ, "PATH": path, "HF_HUB_DISABLE_TELEMETRY": "1"},
        check=False,
    )
    if done.returncode == 0 and not targets:
        scratch.sweep(scratch_root)
    raise typer.Exit(done.returncode)


if __name__ == "__main__":
    command.run(main)
