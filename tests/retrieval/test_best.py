"""Each user's best items: as brute force finds them, whatever the chunks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import sequences
from pipeline.retrieval import best, index


def domain(seed, users=60, n_items=80, width=8, longest=9):
    rng = np.random.default_rng(seed)
    items = rng.standard_normal((n_items + 1, width), dtype=np.float32)
    masked = [rng.integers(1, n_items + 1, rng.integers(0, longest + 1)) for _ in range(users)]
    candidates = rng.random(n_items + 1) < 0.8
    candidates[0] = False
    queries = rng.standard_normal((users, width), dtype=np.float32)
    return queries, items, sequences.from_rows(masked), candidates


def brute_force(queries, items, masked, candidates, k):
    """One user after another: the items in the order of their scores, those that may not be out."""
    found = np.zeros((len(queries), k), int)
    for user, query in enumerate(queries):
        hidden = set(masked.items[masked.offsets[user] : masked.offsets[user + 1]])
        allowed = [i for i in range(1, len(items)) if candidates[i] and i not in hidden]
        ordered = sorted(allowed, key=lambda item: (-np.float64(query @ items[item]), item))
        found[user, : len(ordered[:k])] = ordered[:k]
    return found


def whole(*arguments):
    chunks = list(best.retrieve(*arguments))
    return best.Best(*(np.concatenate(part) for part in zip(*chunks, strict=True)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [1, 10, 50])
def test_the_lists_are_those_of_brute_force(seed, k):
    queries, items, masked, candidates = domain(seed)
    found = whole(queries, items, masked, candidates, k)
    np.testing.assert_array_equal(found.users, np.arange(len(queries)))
    np.testing.assert_array_equal(found.items, brute_force(queries, items, masked, candidates, k))
    expected = np.take_along_axis(queries @ items.T, found.items, axis=1)
    np.testing.assert_allclose(found.scores, expected, rtol=1e-5, atol=1e-5)
    assert (found.items.dtype, found.scores.dtype) == (np.int32, np.float32)


def test_who_has_fewer_items_left_gets_a_shorter_list():
    items = np.array([[9.0], [3.0], [2.0], [1.0]], np.float32)
    masked = sequences.from_rows([[1, 3], [], [1, 2, 3]])
    found = whole(np.ones((3, 1), np.float32), items, masked, np.arange(4) > 0, 3)
    assert found.items.tolist() == [[2, 0, 0], [1, 2, 3], [0, 0, 0]]
    assert found.scores.tolist()[0] == [2.0, -np.inf, -np.inf]


def test_equal_scores_go_by_the_lower_item():
    items = np.array([[0.0], [1.0], [2.0], [1.0], [2.0]], np.float32)
    masked = sequences.from_rows([[]])
    found = whole(np.ones((1, 1), np.float32), items, masked, np.arange(5) > 0, 4)
    assert found.items.tolist() == [[2, 4, 1, 3]]


@given(chunk=st.integers(1, 70), scores=st.integers(1, 5000), seed=st.integers(0, 9))
def test_chunks_change_nothing(chunk, scores, seed):
    queries, items, masked, candidates = domain(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(best, "CHUNK_USERS", chunk)
        patch.setattr(best, "CHUNK_SCORES", scores)
        found = whole(queries, items, masked, candidates, 7)
    np.testing.assert_array_equal(found.items, brute_force(queries, items, masked, candidates, 7))


def test_masks_longer_than_a_search_may_be_are_searched_otherwise(monkeypatch):
    class Short(index.Flat):
        limit = 12

        def search(self, queries, k):
            assert k <= self.limit
            return super().search(queries, k)

    monkeypatch.setattr(index, "index_of", Short)
    queries, items, masked, candidates = domain(0)
    found = whole(queries, items, masked, candidates, 10)
    np.testing.assert_array_equal(found.items, brute_force(queries, items, masked, candidates, 10))
