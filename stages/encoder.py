"""Stage `encoder`: keep a public encoder as a local folder; from here on nothing is downloaded."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline import command
from pipeline.content import encoders, specification
from pipeline.data import lists
from pipeline.params import Params


class Encode(Params):
    """The encoders, one for each modality in use."""

    encoders: dict[lists.Modality, specification.Entry]


def main(
    modality: Annotated[lists.Modality, typer.Option(help="text or image")],
    out: Annotated[Path, typer.Option(help="the folder to write")],
) -> None:
    """Get the encoder that params.yaml names for a modality."""
    named = Encode.load().encoders
    if modality not in named:
        lists.stop(f"encoders: {[*named]}", f"name the {modality} encoder")
    encoder = encoders.fetch(specification.resolve(named[modality], modality), out)
    typer.echo(f"encoder: {encoder.spec.model}, {encoder.width} dimensions -> {out}")


if __name__ == "__main__":
    command.run(main)
