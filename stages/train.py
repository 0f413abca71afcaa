"""Stage `train`: a content run from scratch, on the public encoders' embeddings or end to end."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline import command
from pipeline.content import processes
from pipeline.data import lists
from pipeline.training import runs, trials
from pipeline.training.inputs import Inputs


def main(
    target: Annotated[str, typer.Option(help="the domain to train on")],
    content: Annotated[lists.Content, typer.Option(help="text, image or both")],
    run: Annotated[
        Literal["frozen", "frozen_paper", "end2end"],
        typer.Option(help="which of the runs from scratch"),
    ],
    user: Annotated[str, typer.Option(help="the user encoder, e.g. sasrec")],
    prepared: Annotated[Path, typer.Option(help="the prepared target")],
    embeddings: Annotated[Path, typer.Option(help="its public embeddings, with their passport")],
    encoders: Annotated[Path, typer.Option(help="the public encoders, a folder a modality")],
    covers: Annotated[Path, typer.Option(help="its packed covers; read if content has images")],
    out: Annotated[Path, typer.Option(help="where to write the run's folder")],
    cost: Annotated[Path, typer.Option(help="where to write what it cost, .json")],
    scratch: Annotated[Path, typer.Option(help="where checkpoints live until it is done")],
) -> None:
    """Train a content run on a target; killed, it goes on where it stopped."""
    p = runs.load_settings(run)
    if processes.start(p.machine.processes):
        return
    name = runs.Name(run, target, content, user)
    inputs = Inputs(prepared, embeddings, encoders, covers)
    trials.run(runs.Work(name, inputs, p), out, cost, scratch)


if __name__ == "__main__":
    command.run(main)
