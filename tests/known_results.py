"""What `evaluate` and the runs' costs leave behind, with hits that are known user by user."""

import numpy as np
import polars as pl

from pipeline.data import files, lists
from pipeline.retrieval import evaluation, ranking

PARTS = evaluation.PARTS
CANDIDATES = 300
SHOWN = {
    "coverage@10": 0.5,
    "gini@10": 0.75,
}  # of the catalogue, by the lists of every run and seed


def write(root, group, users, hits, seeds=(0,), capped=(), seconds=None):
    """Write `evaluate` and `costs` below a folder.

    Args:
        root: the folder.
        group: target, content and user encoder.
        users: how many there are.
        hits: run -> how many users it ranks first, those of the lowest numbers; the others it
            misses. One number for all seeds, or one a seed.
        seeds: those of the runs.
        capped: the runs that a cap stopped.
        seconds: a cost file's name -> what it took.
    """
    rows, about = [], {"cutoffs": [10], "capped": {run: run in capped for run in hits}}
    about["catalogue"] = {run: [SHOWN] * len(seeds) for run in hits}
    about["catalogue"] |= {run: [SHOWN] for run in lists.SANITY}
    for run, known in hits.items():
        several = [known] * len(seeds) if isinstance(known, int) else known
        for seed, first in zip(seeds, several, strict=True):
            rows += [evaluation.table(run, seed, part, ranks(first, users)) for part in PARTS]
    for run in lists.SANITY:
        rows += [evaluation.table(run, None, part, ranks(0, users)) for part in PARTS]
    folder = root / "evaluate" / "-".join(group)
    about["counts"] = {"users": users, "candidates": CANDIDATES}
    about["counts"] |= {f"unreachable_{part}": 0 for part in PARTS}
    files.write_json(folder / "evaluation.json", about)
    pl.concat(rows).write_parquet(folder / "ranks.parquet")
    about_users = {"user": np.arange(users), "occurrences": [0] * users, "history": [4] * users}
    about_users["candidates"] = [CANDIDATES] * users
    pl.DataFrame(about_users).cast(evaluation.USERS).write_parquet(folder / "users.parquet")
    for name, spent in (seconds or {}).items():
        files.write_json(root / "costs" / f"{name}.json", {"seconds": spent, "trials": 2})


def ranks(first, users):
    """Rank the held-out items of the first users first, and those of the others eleventh."""
    better = np.where(np.arange(users) < first, 0, 10)
    return ranking.Ranks(better.astype(np.int32), np.ones(users, np.int32))
