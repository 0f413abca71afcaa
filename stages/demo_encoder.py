"""Stage `demo_encoder`: train the demo's small image encoder on the source's covers and titles."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline import command
from pipeline.params import Params
from pipeline.training import clip


class Demo(Params):
    """What `demo_encoder` reads."""

    demo_encoder: clip.DemoEncoder


def main(
    raw: Annotated[Path, typer.Option(help="the raw source domain: its items and covers")],
    out: Annotated[Path, typer.Option(help="where to write the open_clip model's folder")],
) -> None:
    """Train a small open_clip model on a domain's (cover, title) pairs."""
    p = Demo.load()
    pairs = clip.read_pairs(raw, p.demo_encoder.pixels)
    model = clip.train(p.demo_encoder, pairs)
    clip.save(model, p.demo_encoder, out)
    typer.echo(f"demo_encoder: {len(pairs.tokens):,} pairs -> {out}")


if __name__ == "__main__":
    command.run(main)
