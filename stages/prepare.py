"""Stage `prepare`: raw files of a domain -> items, histories in order, a data card."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline import command
from pipeline.data import agreement, card, demo, files, prepare, readers, split, tables
from pipeline.params import Params


class PrepareParams(Params):
    """The sections this stage reads."""

    prepare: prepare.Prepare
    protocol: split.Protocol


def main(
    domain: Annotated[str, typer.Option(help="the domain's name: letters, digits, _")],
    folder: Annotated[Path, typer.Option(help="its raw folder D, named as the files in it")],
    form: Annotated[str, typer.Option("--format", help=", ".join(readers.READERS))],
    language: Annotated[str, typer.Option(help="of the texts in D_item.csv: zh or en")],
    out: Annotated[Path, typer.Option(help="the folder to write")],
    card_folder: Annotated[Path, typer.Option("--card", help="the folder for the data card")],
) -> None:
    """Prepare one domain: read, check, number, order, and describe it."""
    if not agreement.WORD.fullmatch(domain):
        raise files.Stop(f"domain {domain!r}: a name has letters, digits and _ only")
    p = PrepareParams.load()

    # The folders come first: whoever still writes them, with other settings perhaps, is waited for.
    with files.atomic_folder(out) as part, files.atomic_folder(card_folder) as card_part:
        raw = readers.read(form, folder, language, p.prepare.table)
        prepared, counts = prepare.prepare(domain, raw, p.prepare, p.protocol)
        described = card.card(domain, raw, prepared, counts, p.protocol)
        oracle = demo.read_oracle(folder)
        if oracle is not None and counts.drawn_from is None:  # it is of all users
            described["oracle"] = oracle
        tables.save(part, prepared)
        files.write_json(card_part / "card.json", described)
        files.write_text(card_part / "card.md", card.markdown(described))
    for warning in described["warnings"]:
        typer.echo(f"prepare: {domain}: warning: {warning}", err=True)
    of = "" if counts.drawn_from is None else f" of {counts.drawn_from:,}"
    typer.echo(
        f"prepare: {domain}, {described['users']:,}{of} users, {described['items']:,} items, "
        f"{described['interactions']:,} of {counts.read:,} interactions, "
        f"columns {raw.columns} -> {out}"
    )


if __name__ == "__main__":
    command.run(main)
