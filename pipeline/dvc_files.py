"""DVC's own files after a killed `dvc repro`: its lock, and a dvc.lock that was cut off."""

import json
import re
from pathlib import Path

import typer
from dvc.schema import COMPILED_LOCKFILE_SCHEMA  # type: ignore[import-untyped]
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from voluptuous import Invalid

from pipeline.data import files

LOCK = Path(".dvc/tmp/rwlock")
RESULTS = Path("dvc.lock")  # what each stage read and wrote; DVC writes it bit by bit
MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


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
        named = holders(lock.read_text())
        is_left = bool(named)  # without any, DVC leaves it behind when all is well
    except (ValueError, KeyError, TypeError, AttributeError):
        named, is_left = set(), True  # cut off while it was written
    alive = sorted(pid for pid in named if files.is_alive(pid))
    if alive:
        typer.echo(f"repro: process {alive} holds {lock}; dvc will wait or say so", err=True)
        return False
    lock.unlink()
    if is_left:
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
