"""Command `preset`: run another params.yaml in a work tree of its own. No stage of the flow.

The user's own params.yaml, dvc.lock and report stay as they are, and whether its lists agree does
not matter; the DVC cache is shared, so what both have in common runs once.
"""

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

import stages
from pipeline import command
from pipeline.data import files, lists, locks, presets
from pipeline.data.files import Stop
from pipeline.params import FILE

CODE = ("pipeline", "stages", "dvc.yaml", "requirements.txt")


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
    tree = presets.TREES / name
    git("worktree", "prune")
    if (tree / ".git").exists():
        git("-C", str(tree), "checkout", "--quiet", "--force", "--detach", git("rev-parse", "HEAD"))
    else:
        git("worktree", "add", "--quiet", "--force", "--detach", str(tree), "HEAD")
    return tree


def main(
    preset: Annotated[Path, typer.Option(help="a params.yaml, whole or with a base")],
    scratch: Annotated[Path, typer.Option(help="where checkpoints live in its work tree")],
    unpack: Annotated[Path | None, typer.Option(help="a script that lays its data out")] = None,
    data: Annotated[str, typer.Option(help="where in .data, if not under the preset's name")] = "",
    targets: Annotated[list[str] | None, typer.Argument(help="stages; all of them if none")] = None,
) -> None:
    """Run a preset beside the user's own params.yaml and say where its report is."""
    if not preset.is_file():
        known = ", ".join(sorted(map(str, Path("presets").glob("*.yaml")))) or "none"
        raise Stop(f"there is no preset {preset}; there are: {known}")
    content = read(preset)
    if git("status", "--porcelain", "--", *CODE):
        typer.echo("preset: uncommitted changes of the code are not in its work tree", err=True)
    presets.check_owner(presets.TREES / preset.stem, preset)
    folder = presets.DATA / (data or preset.stem)
    if unpack is not None and not folder.is_dir():
        unpack_data(unpack, folder)
    tree = work_tree(preset.stem)
    presets.claim(tree, preset)
    YAML().dump(content, tree / FILE)
    cache_of = [sys.executable, "-m", "dvc", "cache", "dir"]
    cache = subprocess.run(cache_of, check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run([*cache_of, "--local", cache], cwd=tree, check=True)
    repro = [sys.executable, "-m", "stages.repro", "--scratch", str(scratch), *(targets or [])]
    done = subprocess.run(repro, cwd=tree, check=False)
    if done.returncode == 0 and not targets:
        typer.echo(f"preset: report in {tree / 'artifacts/report/report.md'}")
    raise typer.Exit(done.returncode)


def read(preset: Path) -> Any:  # noqa: ANN401  # whatever YAML can hold
    """Read a preset, its paths as seen from a work tree, and see that the stages can read it too.

    Raises:
        Stop: its lists do not agree, a section fits no stage, or it is not whole.
    """
    try:
        content = presets.resolve(presets.read(preset), Path.cwd())
        command.check_apart(content, stages)  # a typo stops now, not hours later
        raws, generated = content["domains"]["all"], lists.generated(lists.FLOW)
        presets.check_visible(
            raws, generated, lambda path: bool(git("ls-tree", "HEAD", "--", path))
        )
    except command.ERRORS as error:
        raise Stop(f"{preset} as {command.message(error)}") from error
    return content


def unpack_data(script: Path, folder: Path) -> None:
    """Let a script lay data out in a folder, whole or not at all; another may do so meanwhile.

    Raises:
        Stop: there is no such script, or it failed.
    """
    if not script.is_file():
        fix = f"name the right one with --unpack, or lay the raw data out in {folder} yourself"
        raise Stop(f"the data's script {script} is not there: {fix}")
    with locks.held(folder.with_name(f".{folder.name}.unpacked.lock")):
        if folder.is_dir():  # another has done it meanwhile
            return
        with files.atomic_folder(folder) as part:
            done = subprocess.run(["bash", script, part], check=False)
            if done.returncode:
                raise Stop(f"{script} failed with status {done.returncode}; {folder} was not made")


if __name__ == "__main__":
    command.run(main, checks_lists=False)
