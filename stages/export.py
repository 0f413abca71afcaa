"""Command `export`: each user's best items by a trained run, for other tools. No stage of the flow.

lists.parquet has user and item as in the raw data, rank from 1 and score; run.trec and qrels.trec
are what trec_eval, ranx and others read.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline import command
from pipeline.data import files, split, tables
from pipeline.machine import Machine
from pipeline.params import Params
from pipeline.retrieval import evaluation, export, index, metrics, search, vectors


class Export(Params):
    """What `export` reads."""

    protocol: split.Protocol
    machine: Machine


def main(
    run: Annotated[
        Path, typer.Option(help="a run's folder, artifacts/runs/<group>/<run>, or that of a seed")
    ],
    prepared: Annotated[
        Path, typer.Option(help="the prepared domain that it was trained on, artifacts/prepare/<D>")
    ],
    out: Annotated[
        Path, typer.Option(help="the folder to write, a new one; several seeds: a folder each")
    ],
    k: Annotated[int, typer.Option("--k", min=1, help="items a user")] = 100,
    part: Annotated[
        Literal["test", "valid"],
        typer.Option("--split", help="lists for the test item, or for the validation item"),
    ] = "test",
) -> None:
    """Write each user's K best items, exactly, among the protocol's candidates, less its mask.

    `protocol` in params.yaml says what the candidates are and what of a user's past is masked, as
    in `evaluate`. A user with fewer than K candidates left gets a shorter list. In lists.parquet
    ids are those of the raw data; in run.trec (user Q0 item rank score tag) and qrels.trec (user 0
    item 1, the held-out items) a blank in an id is written %20, and % is %25.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise files.Stop(f"{out} is there already; name a new folder, or remove it")
    p = Export.load()
    index.set_up(p.machine.device, p.machine.threads)
    domain = tables.load(prepared)
    n_items, n_users = len(domain.items), len(domain.users)
    divided = split.split(domain.sequences, n_items, p.protocol)
    held_out, candidates = evaluation.parts(divided)[part], int(divided.candidates.sum())
    if k > candidates:
        raise files.Stop(
            f"--k {k:,}: more than the {candidates:,} candidates of {prepared}; lower it"
        )
    with files.atomic_folder(out) as made:
        for folder in vectors.folders(run):
            to = made / folder.relative_to(run)
            to.mkdir(exist_ok=True)
            model = vectors.load(folder, n_items, n_users)
            export.check(folder, prepared, domain, p.protocol)
            tag = f"{files.read_json(folder / 'run.json')['run']}-{model.seed}"
            own = (model.queries[part], model.items)
            cutoff = min(metrics.CUTOFF, k)
            found = search.retrieve(*own, held_out, divided.candidates, cutoff, k)
            export.write(to, export.chunks(*own, found.lists), held_out, domain, tag)
            means = metrics.summary(found.ranks, [cutoff])
            scores = [f"{name} {mean:.4f}" for name, mean in means.items()]
            typer.echo(
                f"export: {tag}, {n_users:,} users, {k:,} of {candidates:,} candidates, {part} "
                f"{', '.join(scores)} -> {out / folder.relative_to(run)}"
            )


if __name__ == "__main__":
    command.run(main)
