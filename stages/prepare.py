"""Stage `prepare`: raw files of a domain -> items, histories in order, a data card."""

import re
from pathlib import Path
from typing import Annotated

import typer

from pipeline import command
from pipeline.data import card, covers, files, prepare, readers, split, tables
from pipeline.params import Params

ORACLE = "oracle.json"  # in the folder of generated data: the best possible hit rates


class PrepareParams(Params):
    """The sections this stage reads."""

    prepare: prepare.Prepare
    protocol: split.Protocol


def main(
    domain: Annotated[str, typer.Option(help="the domain's name: letters, digits, _")],
    folder: Annotated[Path, typer.Option(help="its raw folder; ninerec: D, with D_item.csv in it")],
    form: Annotated[str, typer.Option("--format", help="ninerec or table")],
    language: Annotated[str, typer.Option(help="of the texts in ninerec's D_item.csv: zh or en")],
    out: Annotated[Path, typer.Option(help="the folder to write")],
    card_folder: Annotated[Path, typer.Option("--card", help="the folder for the data card")],
    covers_folder: Annotated[
        str, typer.Option("--covers", help="its folder of covers; empty: the domain has none")
    ] = "",
) -> None:
    """Prepare one domain: read, check, number, order, and describe it."""
    if not re.fullmatch("[A-Za-z0-9_]+", domain):
        raise files.Stop(f"domain {domain!r}: a name has letters, digits and _ only")
    p = PrepareParams.load()

    raw = readers.read(form, folder, language, p.prepare.table)
    names = covers.listing(Path(covers_folder)) if covers_folder else []
    prepared, counts = prepare.prepare(domain, raw, names, p.prepare, p.protocol)
    described = card.card(domain, raw, prepared, counts, p.protocol)
    if (folder / ORACLE).is_file():
        described["oracle"] = files.read_json(folder / ORACLE)

    with files.atomic_folder(out) as part:
        tables.save(part, prepared)
    with files.atomic_folder(card_folder) as part:
        files.write_json(part / "card.json", described)
        files.write_text(part / "card.md", card.markdown(described))
    for warning in raw.warnings:
        typer.echo(f"prepare: {domain}: warning: {warning}", err=True)
    typer.echo(
        f"prepare: {domain}, {described['users']:,} users, {described['items']:,} items, "
        f"{described['interactions']:,} of {counts.read:,} interactions, "
        f"columns {raw.columns} -> {out}"
    )


if __name__ == "__main__":
    command.run(main)
