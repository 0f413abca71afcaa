"""Stage `demo`: generate a small multimodal data set with a known answer, in NineRec's layout."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline import command
from pipeline.data import demo
from pipeline.params import Params


class Demo(Params):
    """What `demo` reads."""

    demo_data: demo.DemoData


def main(
    out: Annotated[Path, typer.Option(help="where to write the raw domains")],
) -> None:
    """Generate the demo's source and its three targets."""
    p = Demo.load()
    demo.write(p.demo_data, out)
    typer.echo(f"demo: {', '.join(demo.DIALECTS)} and the oracle's hit rates -> {out}")


if __name__ == "__main__":
    command.run(main)
