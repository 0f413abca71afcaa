"""Stage `baseline`: the `id` run, learned vectors instead of content."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline import command
from pipeline.content import processes
from pipeline.training import runs, trials
from pipeline.training.inputs import Inputs


def main(
    target: Annotated[str, typer.Option(help="the domain to train on")],
    user: Annotated[str, typer.Option(help="the user encoder, e.g. sasrec")],
    prepared: Annotated[Path, typer.Option(help="the prepared target")],
    out: Annotated[Path, typer.Option(help="where to write the run's folder")],
    cost: Annotated[Path, typer.Option(help="where to write what it cost, .json")],
    scratch: Annotated[Path, typer.Option(help="where checkpoints live until it is done")],
) -> None:
    """Train item ids on a target; killed, it goes on where it stopped."""
    p = runs.load_settings("id")
    if processes.start(p.machine.processes):
        return
    name = runs.Name("id", target, "id", user)
    trials.run(runs.Work(name, Inputs(prepared), p), out, cost, scratch)


if __name__ == "__main__":
    command.run(main)
