"""Stage `embed`: one vector an item, from its text or its cover, by a public encoder."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline import command
from pipeline.content import embed, encoders, processes
from pipeline.data import lists
from pipeline.machine import Machine
from pipeline.params import Params


class Embed(Params):
    """What it reads of params.yaml."""

    machine: Machine


def main(
    modality: Annotated[lists.Modality, typer.Option(help="text or image")],
    encoder: Annotated[Path, typer.Option(help="the encoder folder")],
    prepared: Annotated[Path, typer.Option(help="the prepared domain")],
    out: Annotated[Path, typer.Option(help="where to write vectors and passport")],
    scratch: Annotated[Path, typer.Option(help="where shards live until it is done")],
    cost: Annotated[Path, typer.Option(help="where to write what it cost, .json")],
    covers: Annotated[Path | None, typer.Option(help="its packed covers, for images")] = None,
) -> None:
    """Embed all items of a domain; killed, it goes on at its last shard."""
    machine = Embed.load().machine
    if processes.start(machine.processes):
        return
    loaded = encoders.load(encoder, modality)
    job = embed.Job(loaded, embed.content(loaded, prepared, covers))
    embed.run(
        {modality: job}, is_joint=False, out=out, cost=cost, scratch_root=scratch, machine=machine
    )
    if processes.is_first():
        present = job.content.present
        has = f"{present.sum():,} of {len(present) - 1:,} items have {modality}"
        typer.echo(f"embed: {has} -> {out}")


if __name__ == "__main__":
    command.run(main)
