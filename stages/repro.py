"""Command `repro`: `dvc repro`, after a killed one too. No stage of the flow.

`kill -9` of `dvc repro` leaves its lock behind, held by nobody, and perhaps half-written, as may be
its dvc.lock; the stage it had started lives on, and its successor waits for it by itself.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from dvc.schema import COMPILED_LOCKFILE_SCHEMA  # type: ignore[import-untyped]
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from voluptuous import Invalid

import stages
from pipeline import command
from pipeline.data import files, lists, scratch
from pipeline.params import FILE
from pipeline.training import negatives

LOCK = Path(".dvc/tmp/rwlock")
RESULTS = Path("dvc.lock")  # what each stage read and wrote; DVC writes it bit by bit
MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


class Asked(lists.Lists):
    """What decides whether there will be a report, and whether the loss fits the runs."""

    training: dict[str, Any]


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
        alive = sorted(pid for pid in holders(lock.read_text()) if files.is_alive(pid))
    except (ValueError, KeyError, TypeError, AttributeError):
        alive = []  # cut off while it was written
    if alive:
        typer.echo(f"repro: process {alive} holds {lock}; dvc will wait or say so", err=True)
        return False
    lock.unlink()
    typer.echo(f"repro: removed {lock}, left by a killed process", err=True)
    return True


def is_whole(text: str) -> bool:
    """Say whether the text of a dvc.lock is one that DVC reads, with a hash for every path."""
    try:
        content = COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(text))
    except (YAMLError, Invalid):
        return False
    paths = [
        path
        for stage in content.get("stages", {}).values()
        for path in [*stage.get("deps", []), *stage.get("outs", [])]
    ]
    return all(MD5.fullmatch(path.get("md5") or "") for path in paths)


def set_aside(results: Path) -> bool:
    """Move a dvc.lock that was cut off aside; say whether it was."""
    if not results.exists() or is_whole(results.read_text("utf-8", errors="replace")):
        return False
    broken = results.with_name(f"{results.name}.broken")
    results.replace(broken)
    typer.echo(
        f"repro: {results} was cut off by a killed process, moved to {broken}; what was done "
        "comes from DVC's cache of runs",
        err=True,
    )
    return True


def check_sections() -> None:
    """See that params.yaml fits every stage, if it changed since DVC last wrote down what ran.

    It takes some seconds, which a typo in what the last stage reads would make hours.

    Raises:
        Stop: nothing reads a section.
        ValidationError: a section does not fit a stage that reads it.
    """
    if not RESULTS.exists() or RESULTS.stat().st_mtime <= FILE.stat().st_mtime:
        command.check_whole(YAML(typ="safe").load(FILE), stages)


def main(
    scratch_root: Annotated[
        Path, typer.Option("--scratch", help="checkpoints, of no use once all stages are done")
    ],
    targets: Annotated[list[str] | None, typer.Argument(help="stages; all of them if none")] = None,
) -> None:
    """Run what params.yaml, code and data ask for, and go on where a killed run stopped."""
    if not targets:
        p = Asked.load()
        lists.check_report(p.contents)
        negatives.check_loss(p.training.get("loss"), p.runs.encodes(p.sources))
        check_sections()
    unlock(LOCK)
    if not LOCK.exists():  # nobody is writing it this moment
        set_aside(RESULTS)
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
