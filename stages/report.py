"""Stage `report`: tables, differences, slices, costs and figures from all that was found."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline import command
from pipeline.data import files, lists
from pipeline.params import Params
from pipeline.reporting import document, evidence, gallery, plots


class Report(Params):
    """What `report` reads: what is in params.yaml is in the report, whatever else lies about."""

    domains: lists.Domains
    sources: list[str]
    targets: list[str]
    contents: list[str]
    users: list[str]
    encoders: dict[str, Any]  # named, not read
    runs: lists.Runs
    seeds: list[int]
    report: lists.Reporting


def main(
    prepared: Annotated[Path, typer.Option(help="the folder of all prepared domains")],
    cards: Annotated[Path, typer.Option(help="the folder of all data cards")],
    evaluated: Annotated[Path, typer.Option(help="the folder of all evaluations")],
    runs: Annotated[Path, typer.Option(help="the folder of all runs, for their curves")],
    costs: Annotated[Path, typer.Option(help="the folder of all costs")],
    out: Annotated[Path, typer.Option(help="the folder to write report.md and the rest to")],
) -> None:
    """Report what was found."""
    p = Report.load()
    lists.check_report(p.contents)
    names = p.runs.names(p.sources)
    wanted = evidence.Wanted(
        p.sources, p.targets, p.contents, p.users, names, p.seeds, p.report.contrasts,
        illustrated=[*p.domains.image],
    )  # fmt: skip
    where = evidence.Where(prepared, cards, evaluated, costs)
    with files.atomic_folder(out) as part:  # first: whoever still writes it is waited for
        found = evidence.gather(wanted, where)
        curves = {
            one.group: plots.read_curves(runs, one.group, names, p.seeds) for one in found.outcomes
        }
        drawn = gallery.draw(found, curves, part)
        plots.write(part, found, curves)
        files.write_text(part / "report.md", document.write(found, drawn, p.encoders))
    stated = f"{len(found.contrasts)} differences stated"
    typer.echo(f"report: {len(found.outcomes)} groups of runs, {stated} -> {out / 'report.md'}")


if __name__ == "__main__":
    command.run(main)
