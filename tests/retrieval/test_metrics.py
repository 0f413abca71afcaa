import math

import numpy as np
import pytest

from pipeline.retrieval import metrics, ranking


def ranks(*pairs):
    better, tied = np.array(pairs, np.int32).T
    return ranking.Ranks(better, tied)


@pytest.mark.parametrize(
    ("better", "tied", "k", "hit", "ndcg", "mrr"),
    [
        (0, 1, 10, 1.0, 1.0, 1.0),  # first
        (1, 1, 10, 1.0, 1 / math.log2(3), 1 / 2),  # second
        (2, 1, 10, 1.0, 1 / 2, 1 / 3),  # third: log2(1 + 3) = 2
        (9, 1, 10, 1.0, 1 / math.log2(11), 1 / 10),
        (10, 1, 10, 0.0, 0.0, 0.0),  # just past the cutoff
        (0, 0, 10, 0.0, 0.0, 0.0),  # may not be retrieved
        (10, 0, 10, 0.0, 0.0, 0.0),  # further down than was looked
        (0, 2, 1, 1 / 2, (1 + 0) / 2, (1 + 0) / 2),  # rank 1 or 2
        (
            1,
            3,
            3,
            2 / 3,
            (1 / math.log2(3) + 1 / 2 + 0) / 3,
            (1 / 2 + 1 / 3 + 0) / 3,
        ),  # rank 2, 3 or 4
        (
            8,
            100,
            10,
            2 / 100,
            (1 / math.log2(10) + 1 / math.log2(11)) / 100,
            (1 / 9 + 1 / 10) / 100,
        ),
    ],
)
def test_hand_worked_values(better, tied, k, hit, ndcg, mrr):
    assert metrics.hit(ranks((better, tied)), k)[0] == pytest.approx(hit)
    assert metrics.ndcg(ranks((better, tied)), k)[0] == pytest.approx(ndcg)
    assert metrics.mrr(ranks((better, tied)), k)[0] == pytest.approx(mrr)


def test_summary_averages_over_users():
    found = metrics.summary(ranks((0, 1), (2, 1), (0, 0), (10, 0)), [1, 10])
    assert found == pytest.approx(
        {
            "hr@1": 1 / 4,
            "hr@10": (1 + 1) / 4,
            "ndcg@1": 1 / 4,
            "ndcg@10": (1 + 1 / 2) / 4,
            "mrr@1": 1 / 4,
            "mrr@10": (1 + 1 / 3) / 4,
        }
    )


def test_expected_values_are_averages_over_the_orders_of_ties():
    rng = np.random.default_rng(0)
    better, tied, k = 3, 12, 10
    drawn = better + 1 + rng.integers(0, tied, 200_000)
    hits = drawn <= k
    assert metrics.hit(ranks((better, tied)), k)[0] == pytest.approx(hits.mean(), abs=0.005)
    gains = np.where(hits, 1 / np.log2(1 + drawn), 0)
    assert metrics.ndcg(ranks((better, tied)), k)[0] == pytest.approx(gains.mean(), abs=0.005)
    inverse = np.where(hits, 1 / drawn, 0)
    assert metrics.mrr(ranks((better, tied)), k)[0] == pytest.approx(inverse.mean(), abs=0.005)
