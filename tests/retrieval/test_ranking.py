import numpy as np
import pytest

from pipeline.retrieval import ranking
from pipeline.retrieval.scoring import Chunk

ITEMS = np.array([[0], [5], [4], [4], [3], [1]], np.float32)  # item 0 is PAD


def chunk(found, masked, is_complete=False):
    """One user's: the score of item i is its only number, the tolerance 0.01."""
    items = np.array([found])
    return Chunk(
        np.ones((1, 1), np.float32), ITEMS, items, ITEMS[items, 0], np.isin(items, masked),
        np.array([0.01]), is_complete,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("held_out", "masked", "depth", "expected", "is_certain"),
    [
        (1, [], 3, (0, 1), True),  # first
        (3, [], 3, (1, 2), True),  # item 1 is better, item 2 is tied
        (3, [1], 3, (0, 2), True),  # item 1 is masked
        (4, [], 4, (3, 1), False),  # the last one found: another could be tied with it
        (4, [], 3, (3, 1), True),  # but 3 better ones are enough
        (5, [], 4, (4, 0), True),  # not found: all 4 found are better
        (5, [2], 4, (3, 0), False),  # one of which is masked: a fourth may be there
    ],
)
def test_counts_of_what_was_found_by_hand(held_out, masked, depth, expected, is_certain):
    ranks, certain = ranking.of_search(chunk([1, 2, 3, 4], masked), np.array([held_out]), depth)
    assert (ranks.better[0], ranks.tied[0], certain[0]) == (*expected, is_certain)


def test_all_that_there_is_is_certain():
    found = chunk([1, 2, 3, 4], [2], is_complete=True)
    ranks, certain = ranking.of_search(found, np.array([4]), 4)
    assert (ranks.better[0], ranks.tied[0], certain[0]) == (2, 1, True)


@pytest.mark.parametrize(
    ("held_out", "depth", "expected"), [(3, 3, (1, 2)), (4, 3, (3, 0)), (5, 9, (0, 0))]
)
def test_ranks_by_all_scores_by_hand(held_out, depth, expected):
    """Item 5 may not be retrieved; item 4 stands fourth."""
    scores = np.array([[-np.inf, 5, 4, 4, 3, -np.inf]])
    ranks = ranking.of_scores(scores, np.array([held_out]), depth)
    assert (ranks.better[0], ranks.tied[0]) == expected
