"""One domain under the protocol: rank, keep each user's rank, look at the lists."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import polars as pl
from pydantic import Field, PositiveInt, field_validator

from pipeline.data import files, sequences
from pipeline.data.split import HeldOut, Split
from pipeline.params import Section
from pipeline.retrieval import baselines, catalogue, metrics, ranking, search, vectors
from pipeline.retrieval.ranking import Ranks
from pipeline.retrieval.search import Found

PARTS = ("valid", "test")
RANKS = pl.Schema(
    {
        "run": pl.String,
        "seed": pl.Int64,  # null where nothing was trained
        "split": pl.String,  # one of PARTS
        "user": pl.Int32,  # row of the prepared domain's users
        "better": pl.Int32,
        "tied": pl.Int32,
    }
)
USERS = pl.Schema(
    {
        "user": pl.Int32,  # as in RANKS
        "occurrences": pl.Int32,  # of the held-out test item, in the train parts of all users
        "history": pl.Int32,  # items that are known before it: those that a user encoder reads
        "candidates": pl.Int32,  # items that may be retrieved; 0 where the test item is none
    }
)


class Evaluation(Section):
    """The section `evaluate`."""

    # The K of HR@K, NDCG@K, MRR@K, coverage@K, Gini@K.
    cutoffs: list[PositiveInt] = Field(min_length=1)

    @field_validator("cutoffs")
    @classmethod
    def _are_distinct(cls, cutoffs: list[int]) -> list[int]:
        if len(set(cutoffs)) < len(cutoffs):
            raise ValueError("a cutoff is listed twice; its columns would be the same")
        return cutoffs

    @property
    def depth(self) -> int:
        """As deep as any cutoff looks, and the report's."""
        return max(*self.cutoffs, metrics.CUTOFF)


class Judged(NamedTuple):
    """What one recommender, trained with one seed, came to."""

    run: str
    seed: int | None
    ranks: pl.DataFrame  # rows of RANKS, both parts
    catalogue: dict[str, float]  # coverage@K, gini@K of the lists for the test users


def check(domain: str, candidates: int, depth: int) -> None:
    """See that there are candidates for as many places as the largest cutoff looks at.

    Raises:
        Stop: there are fewer candidates than the largest cutoff.
    """
    if candidates < depth:
        raise files.Stop(
            f"{domain}: {candidates:,} candidates, fewer than the largest cutoff, {depth}, so that "
            "every one of them would be a hit; lower evaluate.cutoffs in params.yaml, or bring "
            "more items"
        )


def trained(run: str, model: vectors.Trained, divided: Split, evaluate: Evaluation) -> Judged:
    """Retrieve for validation and test by one trained model."""
    found = {
        part: search.retrieve(model.queries[part], model.items, *asked)
        for part, asked in _asked(divided, evaluate).items()
    }
    return _judge(run, model.seed, found, divided, evaluate)


def sanity(divided: Split, embeddings: Sequence[np.ndarray], evaluate: Evaluation) -> list[Judged]:
    """Retrieve for validation and test by the recommenders without training.

    Args:
        divided: the domain.
        embeddings: one [N + 1, C] float32 a modality, by the public encoders.
        evaluate: how deep to look, and at which cutoffs.
    """
    recommenders: dict[str, Callable[..., Found]] = {
        "popularity": partial(baselines.popularity, divided.train),
        "itemknn": partial(baselines.itemknn, divided.train),
        "contentknn": partial(baselines.contentknn, embeddings),
    }
    judged = []
    for name, retrieve in recommenders.items():
        found = {part: retrieve(*asked) for part, asked in _asked(divided, evaluate).items()}
        judged.append(_judge(name, None, found, divided, evaluate))
    return judged


def parts(divided: Split) -> dict[str, HeldOut]:
    """Name the two held-out parts."""
    return {"valid": divided.valid, "test": divided.test}


def table(run: str, seed: int | None, part: str, ranks: Ranks) -> pl.DataFrame:
    """Lay ranks out as rows of RANKS."""
    columns = {"user": np.arange(len(ranks.better)), "better": ranks.better, "tied": ranks.tied}
    labels = [pl.lit(run).alias("run"), pl.lit(seed).alias("seed"), pl.lit(part).alias("split")]
    return pl.DataFrame(columns).with_columns(labels).select(RANKS.names()).cast(RANKS)


def ranks_of(rows: pl.DataFrame) -> Ranks:
    """Take ranks back out of rows of RANKS."""
    return Ranks(rows["better"].to_numpy(), rows["tied"].to_numpy())


def users(divided: Split) -> pl.DataFrame:
    """Say of each test user what results are divided by: rows of USERS."""
    counts = np.bincount(divided.train.items, minlength=len(divided.candidates))
    columns = {
        "user": np.arange(len(divided.test.items)),
        "occurrences": counts[divided.test.items],
        "history": sequences.lengths(divided.test.histories),
        "candidates": _candidates(divided.test, divided.candidates),
    }
    return pl.DataFrame(columns).cast(USERS)


def _candidates(held_out: HeldOut, candidates: np.ndarray) -> np.ndarray:
    """Count what may be retrieved for each user: [U] int64, 0 where the held-out item may not."""
    width = len(candidates)
    pairs = sequences.distinct(held_out.masked, width)
    pairs = pairs[candidates[pairs % width]]
    taken = np.bincount(pairs // width, minlength=len(held_out.items))
    is_reachable = ranking.reachable(held_out, candidates)
    return np.where(is_reachable, candidates.sum() - taken, 0)


def catalogues(judged: Sequence[Judged]) -> dict[str, list[dict[str, float]]]:
    """Gather what each run's lists show of the catalogue: {run: [{"coverage@10": ..} a seed]}."""
    runs: dict[str, list[dict[str, float]]] = {}
    for one in judged:
        runs.setdefault(one.run, []).append(one.catalogue)
    return runs


def counts(divided: Split) -> dict[str, int]:
    """Count what the numbers stand on: users, candidates, held-out items out of reach."""
    return {
        "users": len(divided.test.items),
        "candidates": int(divided.candidates.sum()),
        **{
            f"unreachable_{part}": int((~ranking.reachable(held_out, divided.candidates)).sum())
            for part, held_out in parts(divided).items()
        },
    }


def _asked(divided: Split, evaluate: Evaluation) -> dict[str, tuple[HeldOut, np.ndarray, int, int]]:
    """Say what is asked of each recommender, as `search.retrieve` takes it; lists on test alone."""
    candidates, depth = divided.candidates, evaluate.depth
    return {
        part: (held_out, candidates, depth, max(evaluate.cutoffs) if part == "test" else 0)
        for part, held_out in parts(divided).items()
    }


def _judge(
    run: str, seed: int | None, found: Mapping[str, Found], divided: Split, evaluate: Evaluation
) -> Judged:
    """Lay out what was found for the two parts."""
    ranks = pl.concat([table(run, seed, part, one.ranks) for part, one in found.items()])
    shown = catalogue.summary(found["test"].lists, divided.candidates, evaluate.cutoffs)
    return Judged(run, seed, ranks, shown)
