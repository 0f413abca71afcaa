"""Stage `embed_tuned`: a target's items by the encoders that a source has tuned."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline import command
from pipeline.content import embed, encoders, processes
from pipeline.data import lists
from pipeline.machine import Machine
from pipeline.params import Params


class EmbedTuned(Params):
    """What it reads of params.yaml."""

    machine: Machine


def main(
    pretrained: Annotated[Path, typer.Option(help="the end2end model of the source")],
    prepared: Annotated[Path, typer.Option(help="the prepared target")],
    covers: Annotated[Path, typer.Option(help="its packed covers; read if content has images")],
    content: Annotated[lists.Content, typer.Option(help="text, image or both")],
    out: Annotated[Path, typer.Option(help="where to write a folder a modality, and a passport")],
    scratch: Annotated[Path, typer.Option(help="where shards live until it is done")],
    cost: Annotated[Path, typer.Option(help="where to write what it cost, .json")],
) -> None:
    """Embed all items of a target; killed, it goes on at its last shard."""
    machine = EmbedTuned.load().machine
    if processes.start(machine.processes):
        return
    jobs = {}
    for modality in lists.MODALITIES[content]:
        loaded = encoders.load(pretrained / "encoder" / modality, modality)
        jobs[modality] = embed.Job(loaded, embed.content(loaded, prepared, covers))
    embed.run(jobs, is_joint=True, out=out, cost=cost, scratch_root=scratch, machine=machine)
    if processes.is_first():
        typer.echo(f"embed_tuned: {content} of {prepared} -> {out}")


if __name__ == "__main__":
    command.run(main)
