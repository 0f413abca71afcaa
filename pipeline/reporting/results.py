"""What was found for one target, content and user encoder: every run's value for every user."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from pipeline.data import files, lists
from pipeline.retrieval import catalogue, evaluation, metrics, significance
from pipeline.retrieval.significance import Estimate

HR, NDCG = f"hr@{metrics.CUTOFF}", f"ndcg@{metrics.CUTOFF}"
METRICS = (HR, NDCG)  # those whose values are kept user by user, to be compared and divided
SEED = 0  # of the resamples: the same report from the same results


class Group(NamedTuple):
    """Runs that are compared with each other."""

    target: str
    content: str
    user: str  # the user encoder

    @property
    def name(self) -> str:
        """Name the group as its folders are named."""
        return "-".join(self)


class Spread(NamedTuple):
    """A number of a run, averaged over seeds."""

    mean: float
    sd: float | None  # between seeds; none where there is one


class Result(NamedTuple):
    """One run, or one recommender without training."""

    run: str
    capped: bool  # it, or the source's model it starts from, stopped before its patience
    values: dict[tuple[str, str], np.ndarray]  # (valid | test, one of METRICS) -> [S, U] float64
    estimates: dict[tuple[str, str], Estimate]  # over users, of seeds averaged user by user
    sds: dict[tuple[str, str], float | None]  # between seeds; none where there is one
    catalogue: dict[str, Spread]  # coverage@K, gini@K of the test users' lists


class Outcome(NamedTuple):
    """All results of a group."""

    group: Group
    counts: dict[str, int]  # users, candidates, unreachable_valid, unreachable_test
    results: dict[str, Result]  # runs in the order of the tables, then those without training
    cutoffs: list[int]  # the K of the metrics, CUTOFF first
    users: pl.DataFrame  # rows of evaluation.USERS, in the order of the values

    @property
    def metrics(self) -> list[str]:
        """Name the metrics that were computed, METRICS first."""
        return [f"{name}@{k}" for k in self.cutoffs for name in metrics.MEASURES]

    @property
    def runs(self) -> list[Result]:
        """List the trained runs."""
        return [one for name, one in self.results.items() if name not in lists.SANITY]

    @property
    def chance(self) -> dict[str, float]:
        """Give what a random order of each user's candidates scores."""
        return metrics.chance(self.users["candidates"].to_numpy(), self.cutoffs)


def load(evaluated: Path, group: Group, runs: list[str], capped: set[str]) -> Outcome:
    """Read a group's results.

    Args:
        evaluated: the folder of all evaluations.
        group: whose results.
        runs: the runs to read, in the order of the tables.
        capped: runs whose source's model was capped.

    Raises:
        Stop: the group or one of its runs was not evaluated.
    """
    folder = evaluated / group.name
    if not (folder / "evaluation.json").is_file():
        raise files.Stop(f"{folder} holds no evaluation: run `dvc repro`.")
    found: dict[str, Any] = files.read_json(folder / "evaluation.json")
    cutoffs = [metrics.CUTOFF, *(k for k in found["cutoffs"] if k != metrics.CUTOFF)]
    ranks = pl.read_parquet(folder / "ranks.parquet")
    results = {}
    for run in [*runs, *lists.SANITY]:
        own = ranks.filter(run=run)
        if own.is_empty():
            raise files.Stop(f"{folder} does not hold the run {run!r}: run `dvc repro`.")
        is_capped = found["capped"].get(run, False) or run in capped
        names = catalogue.names(found["cutoffs"])
        shown = {name: _over_seeds(found["catalogue"][run], name) for name in names}
        results[run] = summarise(run, is_capped, own, cutoffs, shown)
    users = pl.read_parquet(folder / "users.parquet").sort("user")
    return Outcome(group, found["counts"], results, cutoffs, users)


def summarise(
    run: str,
    capped: bool,
    ranks: pl.DataFrame,
    cutoffs: Sequence[int],
    shown: Mapping[str, Spread],
) -> Result:
    """Turn one run's ranks into values and estimates.

    Args:
        run: its name.
        capped: whether it was.
        ranks: its rows of evaluation.RANKS.
        cutoffs: the K of the metrics.
        shown: what its lists show of the catalogue.
    """
    result = Result(run, capped, {}, {}, {}, {**shown})
    for part in evaluation.PARTS:
        rows = ranks.filter(split=part).sort("seed", "user")
        seeds = max(1, rows["seed"].n_unique())
        kept = evaluation.ranks_of(rows)
        for k in cutoffs:
            for name, measure in metrics.MEASURES.items():
                key, values = (part, f"{name}@{k}"), measure(kept, k).reshape(seeds, -1)
                result.estimates[key] = bootstrap(values.mean(axis=0))
                result.sds[key] = spread(values.mean(axis=1))
                if key[1] in METRICS:
                    result.values[key] = values
    return result


def bootstrap(values: np.ndarray) -> Estimate:
    """Estimate a mean over users of values [U] float64, the same way every time."""
    return significance.bootstrap(values, np.random.default_rng(SEED))


def spread(values: np.ndarray) -> float | None:
    """Give the standard deviation of several values [S] float64, none of one."""
    return float(values.std(ddof=1)) if len(values) > 1 else None


def _over_seeds(seeds: Sequence[Mapping[str, float]], name: str) -> Spread:
    """Average one of the numbers that each seed has."""
    values = np.array([one[name] for one in seeds])
    return Spread(float(values.mean()), spread(values))
