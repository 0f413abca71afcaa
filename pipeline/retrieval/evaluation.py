"""One domain under the protocol: rank, keep each user's rank, average."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field, PositiveInt

from pipeline.data import files
from pipeline.data.sequences import Lists
from pipeline.data.split import HeldOut, Split
from pipeline.params import Section
from pipeline.retrieval import baselines, metrics, search, vectors
from pipeline.retrieval.search import Ranks

PARTS = ("valid", "test")
RANKS = pl.Schema(
    {
        "run": pl.String,
        "seed": pl.Int32,  # null where nothing was trained
        "split": pl.String,  # one of PARTS
        "user": pl.Int32,  # row of the prepared domain's users
        "better": pl.Int32,
        "tied": pl.Int32,
    }
)
SANITY = ("popularity", "itemknn", "contentknn")  # recommenders without training


class Evaluation(Section):
    """The section `evaluate`."""

    cutoffs: list[PositiveInt] = Field(min_length=1)  # the K of HR@K and NDCG@K

    @property
    def depth(self) -> int:
        """As deep as any cutoff looks, and the report's."""
        return max(*self.cutoffs, metrics.CUTOFF)


def check(domain: str, candidates: int, depth: int) -> None:
    """See that no cutoff is so large that every candidate would be within it.

    Raises:
        Stop: there are fewer candidates than the largest cutoff.
    """
    if candidates < depth:
        raise files.Stop(
            f"{domain}: {candidates:,} candidates, fewer than the largest cutoff, {depth}, so that "
            "every one of them would be a hit; lower evaluate.cutoffs in params.yaml, or bring "
            "more items"
        )


def trained(run: str, model: vectors.Trained, divided: Split, depth: int) -> pl.DataFrame:
    """Rank the held-out items of validation and test by one trained model."""
    return pl.concat(
        [
            table(
                run,
                model.seed,
                part,
                search.rank(model.queries[part], model.items, held_out, divided.candidates, depth),
            )
            for part, held_out in parts(divided).items()
        ]
    )


def sanity(divided: Split, embeddings: Sequence[np.ndarray], depth: int) -> pl.DataFrame:
    """Rank the held-out items by the recommenders without training.

    Args:
        divided: the domain.
        embeddings: one [N + 1, C] float32 a modality, by the public encoders.
        depth: the largest K that is asked for.
    """
    learned: dict[str, Callable[[Lists, HeldOut, np.ndarray, int], Ranks]] = {
        "popularity": baselines.popularity,
        "itemknn": baselines.itemknn,
    }
    tables = []
    for part, held_out in parts(divided).items():
        for name, recommender in learned.items():
            ranks = recommender(divided.train, held_out, divided.candidates, depth)
            tables.append(table(name, None, part, ranks))
        ranks = baselines.contentknn(embeddings, held_out, divided.candidates, depth)
        tables.append(table("contentknn", None, part, ranks))
    return pl.concat(tables)


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


def summarise(ranks: pl.DataFrame, cutoffs: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Average over users and then seeds: {run: {"valid": {"hr@10": ..}, "test": ..}}, fractions.

    With several seeds there are also `sd`, the standard deviation between them, and `seeds`, each
    one's own averages.
    """
    found: dict[str, dict[str, Any]] = {}
    for (run,), own in ranks.group_by("run", maintain_order=True):
        seeds = {
            str(seed): {
                part: metrics.summary(ranks_of(rows), cutoffs)
                for (part,), rows in of_seed.group_by("split", maintain_order=True)
            }
            for (seed,), of_seed in own.group_by("seed", maintain_order=True)
        }
        found[str(run)] = _over_seeds(seeds)
    return found


def counts(divided: Split) -> dict[str, int]:
    """Count what the numbers stand on: users, candidates, held-out items out of reach."""
    return {
        "users": len(divided.test.items),
        "candidates": int(divided.candidates.sum()),
        **{
            f"unreachable_{part}": int((~search.reachable(held_out, divided.candidates)).sum())
            for part, held_out in parts(divided).items()
        },
    }


def _over_seeds(seeds: dict[str, dict[Any, dict[str, float]]]) -> dict[str, Any]:
    several = [*seeds.values()]
    spread = {
        part: {
            name: (
                float(np.mean([one[part][name] for one in several])),
                float(np.std([one[part][name] for one in several], ddof=1))
                if len(several) > 1
                else 0.0,
            )
            for name in values
        }
        for part, values in several[0].items()
    }
    found: dict[str, Any] = {
        part: {name: mean for name, (mean, _) in values.items()} for part, values in spread.items()
    }
    if len(several) > 1:
        found["sd"] = {
            part: {name: sd for name, (_, sd) in values.items()} for part, values in spread.items()
        }
        found["seeds"] = seeds
    return found
