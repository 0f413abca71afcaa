"""Command `verify`: a download of NineRec beside its published statistics. No stage of the flow."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline import command
from pipeline.data.files import Stop
from pipeline.download import cover_check, release, survey, verify


def main(
    root: Annotated[
        Path, typer.Option(help="where Source_datasets/ and Downstream_datasets/ were unpacked")
    ],
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="check this one alone; may be given again; otherwise all there are"),
    ] = None,
    covers: Annotated[
        str,
        typer.Option(
            help="all: decode every cover; sample:N: so many of each data set; listed: only see "
            "that they are there; none: do not look, for texts alone"
        ),
    ] = "all",
    columns: Annotated[
        Literal["item,user", "user,item", "any"],
        typer.Option(help="the order expected in D_pair.csv; the pipeline reads either"),
    ] = "item,user",
    size: Annotated[int, typer.Option(min=1, help="covers.pixels, for the estimate of disk")] = 224,
    threads: Annotated[
        int,
        typer.Option(min=0, help="threads that decode covers; 0: as many as stage covers"),
    ] = 0,
) -> None:
    """Count users, items, interactions and covers of each data set, and say what does not fit.

    Goes through all data sets, however broken; exit status 1 if anything does not fit.
    """
    most = _most(covers)
    if unknown := [name for name in dataset or [] if name not in release.PUBLISHED]:
        raise Stop(f"--dataset {unknown[0]!r} is not one of {', '.join(release.PUBLISHED)}")
    known: dict[Path, str | None] = {}
    verdicts = []
    for name in dataset or release.PUBLISHED:
        folder, shots = release.folder(root, name), release.covers_folder(root, name)
        if not folder.is_dir():
            verdicts.append(verify.absent(name, folder, is_asked_for=bool(dataset)))
            continue
        typer.echo(f"verify: {name}", err=True)
        found = survey.survey(folder)
        checked = cover_check.UNWANTED
        if covers != "none":
            advice = release.without_covers(root, name)
            checked = cover_check.check(
                name, shots, advice, found.items, most, size, threads, known
            )
        on_disk = _bytes(folder, shots, shares=release.PUBLISHED[name].covers is not None)
        order = None if columns == "any" else columns
        published = release.PUBLISHED[name]
        judged = verify.report(name, published, found, checked, on_disk, size, order)
        if checked.wanted:
            judged.notes.extend(release.elsewhere(root, name))
        verdicts.append(judged)
    if all(verdict.verdict == verify.ABSENT for verdict in verdicts):
        raise Stop(
            f"{root}: none of NineRec's data sets is there; the rule is {release.SOURCES}/<D>/ and "
            f"{release.TARGETS}/<D>/ with D of {', '.join(release.PUBLISHED)}. Unpack the archives "
            "there, or name the right folder with --root"
        )
    _say(verdicts, size)


def _most(covers: str) -> int | None:
    """Read --covers: how many to decode, None for all."""
    if covers == "all":
        return None
    if covers in {"listed", "none"}:
        return 0
    if not re.fullmatch("sample:[1-9][0-9]{0,9}", covers):
        raise Stop(
            f"--covers {covers!r}: the rule is all, sample:N, such as sample:500, listed or none"
        )
    return int(covers.partition(":")[2])


def _bytes(folder: Path, shots: Path, shares: bool) -> int:
    """Add up what a data set takes, with its covers unless it shares another's."""
    is_within = shots.is_relative_to(folder) and not shots.is_symlink()
    beside = 0 if shares or is_within else verify.bytes_of(shots)
    return verify.bytes_of(folder) + beside


def _say(verdicts: list[verify.Verdict], size: int) -> None:
    """Print the table, what to do, and leave with status 1 if anything does not fit."""
    mismatches = [problem for verdict in verdicts for problem in verdict.mismatches]
    notes = [note for verdict in verdicts for note in verdict.notes]
    typer.echo(f"{verify.table(verdicts)}\n\n{verify.ESTIMATE.format(size=size)}")
    for title, lines in (("Worth knowing", notes), ("Does not fit", mismatches)):
        if lines:
            typer.echo("\n".join([f"\n{title}:", *(f"- {line}" for line in lines)]))
    counts = {
        word: sum(verdict.verdict == word for verdict in verdicts)
        for word in (verify.OK, verify.MISMATCH, verify.ABSENT)
    }
    typer.echo(f"\nverify: {', '.join(f'{n} {word}' for word, n in counts.items())}")
    raise typer.Exit(int(counts[verify.MISMATCH] > 0))


if __name__ == "__main__":
    command.run(main, checks_lists=False)
