"""Stage `encoder`: keep a public encoder as a local folder; from here on nothing is downloaded."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline import command
from pipeline.content import encoders, specification
from pipeline.params import Params


class Encode(Params):
    """What it reads of params.yaml."""

    encoders: specification.Encoders


def main(
    modality: Annotated[Literal["text", "image"], typer.Option(help="text or image")],
    out: Annotated[Path, typer.Option(help="the folder to write")],
) -> None:
    """Get the encoder that params.yaml names for a modality."""
    named = Encode.load().encoders
    entry = {"text": named.text, "image": named.image}[modality]
    encoder = encoders.fetch(specification.resolve(entry, modality), out)
    typer.echo(f"encoder: {encoder.spec.model}, {encoder.width} dimensions -> {out}")


if __name__ == "__main__":
    command.run(main)
