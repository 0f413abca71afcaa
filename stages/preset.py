"""Command `preset`: run another params.yaml in a work tree of its own. No stage of the flow.

The user's own params.yaml, dvc.lock and report stay as they are; the DVC cache is shared, so what
both have in common runs once.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from pipeline import command
from pipeline.data import files
from pipeline.data.files import Stop

PRESETS = Path("presets")
TREES = Path(".worktrees")
DATA = Path(".data")  # raw data that git ignores; presets name it as if it were here


def resolve(value: Any, root: Path) -> Any:  # noqa: ANN401  # whatever YAML can hold
    """Make relative paths that leave the work tree, or lie in .data, absolute paths of `root`."""
    if isinstance(value, dict):
        for key in value:
            value[key] = resolve(value[key], root)
    elif isinstance(value, list):
        value[:] = [resolve(one, root) for one in value]
    elif isinstance(value, str) and value.startswith(("../", f"{DATA}/")):
        return str((root / value).resolve())
    return value


def git(*words: str) -> str:
    """Run git and return what it prints.

    Raises:
        Stop: git says no; the message is its own.
    """
    done = subprocess.run(["git", *words], check=False, capture_output=True, text=True)
    if done.returncode:
        raise Stop(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def work_tree(name: str) -> Path:
    """Make, or bring to the present commit, the work tree of a preset."""
    tree = TREES / name
    git("worktree", "prune")
    if (tree / ".git").exists():
        head = git("rev-parse", "HEAD")
        git("-C", str(tree), "checkout", "--quiet", "--force", "--detach", head)
    else:
        git("worktree", "add", "--quiet", "--force", "--detach", str(tree), "HEAD")
    return tree


def main(
    preset: Annotated[Path, typer.Option(help="a whole params.yaml")],
    scratch: Annotated[Path, typer.Option(help="where checkpoints live in its work tree")],
    unpack: Annotated[
        Path | None, typer.Option(help="a script that lays the preset's data out in a folder")
    ] = None,
) -> None:
    """Run a preset beside the user's own params.yaml and say where its report is."""
    if not preset.is_file():
        known = ", ".join(sorted(map(str, PRESETS.glob("*.yaml")))) or "none"
        raise Stop(f"there is no preset {preset}; there are: {known}")
    root = Path.cwd()
    if git("status", "--porcelain", "--", "pipeline", "stages", "dvc.yaml"):
        typer.echo("preset: uncommitted changes of the code are not in its work tree", err=True)
    if unpack is not None and not (DATA / preset.stem).is_dir():
        unpack_data(unpack, DATA / preset.stem)
    tree = work_tree(preset.stem)
    yaml = YAML()
    content = resolve(yaml.load(preset), root)
    with (tree / "params.yaml").open("w") as file:
        yaml.dump(content, file)
    dvc = [sys.executable, "-m", "dvc"]
    cache = subprocess.run([*dvc, "cache", "dir"], check=True, capture_output=True, text=True)
    shared = ["cache", "dir", "--local", cache.stdout.strip()]
    subprocess.run([*dvc, *shared], cwd=tree, check=True)
    done = subprocess.run(
        [sys.executable, "-m", "stages.repro", "--scratch", str(scratch)], cwd=tree, check=False
    )
    if done.returncode == 0:
        typer.echo(f"preset: report in {tree / 'artifacts/report/report.md'}")
    raise typer.Exit(done.returncode)


def unpack_data(script: Path, folder: Path) -> None:
    """Let a script lay data out in a folder, whole or not at all.

    Raises:
        Stop: there is no such script, or it failed.
    """
    if not script.is_file():
        raise Stop(f"the data's script {script} is not there; see README on bringing data")
    for part in folder.parent.glob(f".{folder.name}.*.part"):  # of killed ones
        shutil.rmtree(part, ignore_errors=True)
    with files.atomic_folder(folder) as part:
        done = subprocess.run(["bash", os.fspath(script), os.fspath(part)], check=False)
        if done.returncode:
            raise Stop(f"{script} failed with status {done.returncode}; {folder} was not made")


if __name__ == "__main__":
    command.run(main)
