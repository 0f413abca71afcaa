"""What is made of a run's ranks: values user by user, means over seeds, intervals over users."""

import numpy as np
import polars as pl
import pytest

from pipeline.reporting import results
from pipeline.retrieval import evaluation, ranking
from tests.reporting.conftest import CANDIDATES


def rows(seed, part, better):
    """Ranks of users whose held-out item has so many better ones; none is tied."""
    found = ranking.Ranks(np.array(better, np.int32), np.ones(len(better), np.int32))
    return evaluation.table("id", seed, part, found)


def test_seeds_are_averaged_user_by_user_before_users_are_resampled():
    """On test seed 1 hits users 0 and 1, seed 2 user 0 alone; on validation both hit all four."""
    ranks = pl.concat([
        rows(2, "test", [0, 10, 10, 10]), rows(1, "test", [0, 0, 10, 10]),
        rows(2, "valid", [0] * 4), rows(1, "valid", [0] * 4),
    ])  # fmt: skip
    result = results.summarise("id", False, ranks, [10], {})
    assert result.values["test", "hr@10"].tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]
    found = result.estimates["test", "hr@10"]
    assert found == results.bootstrap(np.array([1, 1 / 2, 0, 0]))
    assert found.mean == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert result.sds["test", "hr@10"] == pytest.approx((2 / 4 - 1 / 4) / 2**0.5)
    assert result.estimates["valid", "hr@10"].mean == 1
    assert result.sds["valid", "hr@10"] == 0


def test_the_cutoff_of_the_report_comes_first_and_chance_is_that_of_the_candidates(world):
    group = results.Group("near", "text", "sasrec")
    outcome = results.load(world.root / "evaluate", group, ["frozen"], set())
    assert outcome.cutoffs == [10, 5]  # of evaluate.cutoffs: [5, 10]
    assert outcome.metrics == ["hr@10", "ndcg@10", "mrr@10", "hr@5", "ndcg@5", "mrr@5"]
    assert outcome.chance["hr@10"] == pytest.approx(10 / CANDIDATES)
    assert outcome.chance["hr@5"] == pytest.approx(5 / CANDIDATES)
