"""Command `repro`: `dvc repro`, after a killed one too. No stage of the flow.

`kill -9` of `dvc repro` leaves its lock behind, held by nobody, and perhaps half-written, as may be
its dvc.lock; the stage it had started lives on, and its successor waits for it by itself.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from ruamel.yaml import YAML

import stages
from pipeline import command, dvc_files
from pipeline.data import agreement, files, lists, scratch
from pipeline.params import FILE

CHECKED = Path(".dvc/tmp/checked-params")  # the state of the last params.yaml that fitted
CODE = [Path(command.__file__).parent, Path(stages.__file__).parent]  # what it has to fit


def check_sections() -> None:
    """See that params.yaml fits every stage, once for each content it and the code have.

    It takes some seconds, which a typo in what the last stage reads would make hours.

    Raises:
        Stop: nothing reads a section, one is not there, or does not fit a stage that reads it.
    """
    state = scratch.state([FILE, lists.FLOW], CODE)
    if not CHECKED.exists() or CHECKED.read_text() != state:
        command.check_apart(YAML(typ="safe").load(FILE), stages)
        files.write_text(CHECKED, state)


def main(
    scratch_root: Annotated[
        Path, typer.Option("--scratch", help="where checkpoints live until all stages are done")
    ],
    targets: Annotated[list[str] | None, typer.Argument(help="stages; all of them if none")] = None,
) -> None:
    """Run what params.yaml, code and data ask for, and go on where a killed run stopped."""
    if not targets:
        listed = lists.Lists.load()
        lists.check_report(listed.contents)
        check_sections()
        agreement.check_paths(listed, lists.generated(lists.FLOW))
    dvc_files.unlock(dvc_files.LOCK)
    if not dvc_files.LOCK.exists():  # nobody is writing it this moment
        dvc_files.set_aside(dvc_files.RESULTS)
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
