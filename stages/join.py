"""Stage `join`: one passport for text and image together; no vector is copied."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline import command
from pipeline.content import store
from pipeline.data import files


def main(
    text: Annotated[Path, typer.Option(help="the embedded texts")],
    image: Annotated[Path, typer.Option(help="the embedded covers")],
    out: Annotated[Path, typer.Option(help="where to write the joint passport")],
) -> None:
    """Point at a domain's embeddings of both modalities."""
    with files.atomic_folder(out) as part:
        store.join({"text": text, "image": image}, part)
    typer.echo(f"join: {text}, {image} -> {out}")


if __name__ == "__main__":
    command.run(main)
