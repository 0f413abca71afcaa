"""Stage `pretrain`: train a source's model, from which transfer runs start."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline import command
from pipeline.content import processes
from pipeline.data import lists
from pipeline.training import runs, trials
from pipeline.training.inputs import Inputs


def main(
    source: Annotated[str, typer.Option(help="the domain to train on")],
    content: Annotated[lists.Content, typer.Option(help="text, image or both")],
    run: Annotated[Literal["frozen", "end2end"], typer.Option(help="which tower")],
    user: Annotated[str, typer.Option(help="the user encoder, e.g. sasrec")],
    prepared: Annotated[Path, typer.Option(help="the prepared source")],
    embeddings: Annotated[Path, typer.Option(help="its public embeddings, with their passport")],
    encoders: Annotated[Path, typer.Option(help="the public encoders, a folder a modality")],
    covers: Annotated[Path, typer.Option(help="its packed covers; read if content has images")],
    out: Annotated[Path, typer.Option(help="where to write the model, and the tuned encoders")],
    cost: Annotated[Path, typer.Option(help="where to write what it cost, .json")],
    scratch: Annotated[Path, typer.Option(help="where checkpoints live until it is done")],
) -> None:
    """Train one tower and user encoder on a source; killed, it goes on where it stopped."""
    p = runs.load_settings(run)
    if processes.start(p.machine.processes):
        return
    p = p.model_copy(update={"seeds": p.seeds[:1]})
    name = runs.Name(run, source, content, user)
    inputs = Inputs(prepared, embeddings, encoders, covers)
    trials.run(runs.Work(name, inputs, p, is_source=True), out, cost, scratch)


if __name__ == "__main__":
    command.run(main)
