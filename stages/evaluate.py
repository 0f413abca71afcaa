"""Stage `evaluate`: retrieve from the whole catalogue for every run of a target and content."""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline import command
from pipeline.content import store
from pipeline.data import files, lists, split, tables
from pipeline.data.progress import Progress
from pipeline.machine import Machine
from pipeline.params import Params
from pipeline.retrieval import evaluation, index, vectors


class Evaluate(Params):
    """What `evaluate` reads."""

    protocol: split.Protocol
    evaluate: evaluation.Evaluation
    sources: list[str]
    runs: lists.Runs
    seeds: list[int]
    machine: Machine


def main(
    target: Annotated[str, typer.Option(help="the domain that was trained on")],
    content: Annotated[str, typer.Option(help="text, image or both")],
    user: Annotated[str, typer.Option(help="the user encoder, e.g. sasrec")],
    runs: Annotated[Path, typer.Option(help="the folder of all runs")],
    prepared: Annotated[Path, typer.Option(help="the prepared target")],
    embeddings: Annotated[Path, typer.Option(help="its public embeddings, for content kNN")],
    out: Annotated[Path, typer.Option(help="the folder to write results to")],
) -> None:
    """Rank every user's held-out items by every run, and by recommenders without training.

    Each user's ranks go to ranks.parquet, the numbers that slice the results to users.parquet, and
    what the lists show of the catalogue, with the counts behind it, to evaluation.json.
    """
    p = Evaluate.load()
    index.set_up(p.machine.device, p.machine.threads)
    with files.atomic_folder(out) as part:  # first: whoever still writes it is waited for
        domain = tables.load(prepared)
        n_items, n_users = len(domain.items), len(domain.users)
        divided = split.split(domain.sequences, n_items, p.protocol)
        counts = evaluation.counts(divided)
        evaluation.check(target, counts["candidates"], p.evaluate.depth)
        embedded = store.load(embeddings)
        store.check_items(embedded, embeddings, prepared, n_items)
        contents = [one.vectors for one in embedded.values()]
        judged = evaluation.sanity(divided, contents, p.evaluate)
        names = p.runs.names(p.sources)
        is_capped: dict[str, bool] = {}
        progress = Progress(f"evaluate {target}, runs", len(names))
        for run in names:
            group = f"{target}-{'id' if run == 'id' else content}-{user}"
            folders = vectors.folders(runs / group / run, p.seeds)
            models = [vectors.load(folder, n_items, n_users) for folder in folders]
            judged += [evaluation.trained(run, model, divided, p.evaluate) for model in models]
            is_capped[run] = any(model.capped for model in models)
            progress.advance(1)
        pl.concat([one.ranks for one in judged]).write_parquet(part / "ranks.parquet")
        evaluation.users(divided).write_parquet(part / "users.parquet")
        described = {"cutoffs": p.evaluate.cutoffs, "counts": counts, "capped": is_capped}
        described["catalogue"] = evaluation.catalogues(judged)
        files.write_json(part / "evaluation.json", described)
    typer.echo(
        f"evaluate: {len(is_capped)} runs, {n_users:,} users, "
        f"{counts['candidates']:,} candidates -> {out}"
    )


if __name__ == "__main__":
    command.run(main)
