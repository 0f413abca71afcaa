"""Stage `transfer`: a run that starts from the source's model, to be tuned or taken as it is."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline import command
from pipeline.content import processes
from pipeline.training import runs, trials


def main(
    target: Annotated[str, typer.Option(help="the domain to transfer to")],
    content: Annotated[str, typer.Option(help="text, image or both")],
    run: Annotated[str, typer.Option(help="frozen_transfer, tuned_zeroshot, end2end_transfer, …")],
    user: Annotated[str, typer.Option(help="the user encoder, e.g. sasrec")],
    pretrained: Annotated[Path, typer.Option(help="the source's model")],
    prepared: Annotated[Path, typer.Option(help="the prepared target")],
    embeddings: Annotated[Path, typer.Option(help="its embeddings by the model's encoders")],
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
    inputs = runs.Inputs(prepared, embeddings, pretrained / "encoder", covers, pretrained)
    trials.run(runs.Work(name, inputs, p), out, cost, scratch)


if __name__ == "__main__":
    command.run(main)
