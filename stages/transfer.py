"""Stage `transfer`: a run that starts from the source's model, to be tuned or taken as it is."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline import command
from pipeline.content import processes
from pipeline.data import lists
from pipeline.training import runs, trials
from pipeline.training.inputs import Inputs


def main(
    target: Annotated[str, typer.Option(help="the domain to transfer to")],
    content: Annotated[lists.Content, typer.Option(help="text, image or both")],
    run: Annotated[
        Literal[
            "frozen_transfer",
            "tuned_transfer",
            "end2end_transfer",
            "frozen_zeroshot",
            "tuned_zeroshot",
        ],
        typer.Option(help="which of the runs that start from the source"),
    ],
    user: Annotated[str, typer.Option(help="the user encoder, e.g. sasrec")],
    pretrained: Annotated[Path, typer.Option(help="the source's model")],
    prepared: Annotated[Path, typer.Option(help="the prepared target")],
    embeddings: Annotated[
        Path,
        typer.Option(help="the target's embeddings, made with the source model's encoders"),
    ],
    covers: Annotated[Path, typer.Option(help="its packed covers; read if content has images")],
    out: Annotated[Path, typer.Option(help="where to write the run's folder")],
    cost: Annotated[Path, typer.Option(help="where to write what it cost, .json")],
    scratch: Annotated[Path, typer.Option(help="where checkpoints live until it is done")],
) -> None:
    """Transfer a source's model to a target; killed, it goes on where it stopped."""
    p = runs.load_settings(run)
    if processes.start(p.machine.processes):
        return
    name = runs.Name(run, target, content, user)
    inputs = Inputs(prepared, embeddings, pretrained / "encoder", covers, pretrained)
    trials.run(runs.Work(name, inputs, p), out, cost, scratch)


if __name__ == "__main__":
    command.run(main)
