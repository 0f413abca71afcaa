"""Stage `covers`: a domain's cover files -> one array of covers of one size."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline import command
from pipeline.data import covers, files, tables
from pipeline.params import Params


class CoversParams(Params):
    """The sections this stage reads."""

    covers: covers.Covers


def main(
    domain: Annotated[str, typer.Option(help="the domain's name, for messages")],
    covers_folder: Annotated[str, typer.Option("--covers", help="its folder of covers")],
    prepared: Annotated[Path, typer.Option(help="the prepared domain: its items")],
    out: Annotated[Path, typer.Option(help="the folder to write")],
    card_folder: Annotated[
        Path,
        typer.Option(
            "--card", help="folder for the list of missing covers and the covers' digests"
        ),
    ],
) -> None:
    """Pack one domain's covers, and say which of them can't be read."""
    if not covers_folder:
        raise files.Stop(f"{domain}: its covers are empty. {covers.WITHOUT}")
    p = CoversParams.load().covers
    items = tables.load_items(prepared)
    folder = Path(covers_folder)

    with files.atomic_folder(out) as part, files.atomic_folder(card_folder) as card_part:
        listed = covers.listing(folder)
        packed = covers.pack(folder, covers.names(items, listed), listed, p.pixels, part)
        described = covers.card(domain, items, packed, listed, p)
        covers.write_digests(card_part, packed.digests)
        files.write_json(card_part / "card.json", described)
    typer.echo(
        f"covers: {domain}, {described['items'] - described['missing']:,} of "
        f"{described['items']:,} items, {p.pixels} px, "
        f"{len(packed.broken):,} files not there or broken -> {out}"
    )


if __name__ == "__main__":
    command.run(main)
