"""The recommended lists, against one user after another in float64."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data import sequences, split
from pipeline.retrieval import index, recommended, scoring, search
from tests.retrieval.test_search import domain, held_out


def by_hand(queries, items, held, candidates, k):
    """Sort each user's rivals by score, then by number; equal vectors score equally."""
    lists = np.zeros((len(queries), k), np.int32)
    for user, query in enumerate(queries.astype(np.float64)):
        begin, end = held.masked.offsets[user : user + 2]
        rivals = np.setdiff1d(np.flatnonzero(candidates), held.masked.items[begin:end])
        best = sorted((-sum(query * items[r].astype(np.float64)), r) for r in rivals)[:k]
        lists[user, : len(best)] = [item for _, item in best]
    return lists


@pytest.mark.parametrize("duplicates", [0, 100])
@pytest.mark.parametrize("k", [1, 10, 300])
def test_lists_agree_with_brute_force(duplicates, k):
    """300 is more than there are candidates, so that lists end in PAD."""
    queries, items, held, candidates = domain(3, duplicates=duplicates)
    found = search.retrieve(queries, items, held, candidates, 10, k)
    np.testing.assert_array_equal(found.lists, by_hand(queries, items, held, candidates, k))
    assert found.lists.dtype == np.int32


def test_ranks_are_the_same_with_and_without_lists():
    queries, items, held, candidates = domain(3, duplicates=100)
    found = search.retrieve(queries, items, held, candidates, 10, 25)
    np.testing.assert_array_equal(found.ranks, search.rank(queries, items, held, candidates, 10))
    assert search.retrieve(queries, items, held, candidates, 10, 0).lists.shape == (200, 0)


def test_no_list_has_an_item_twice_or_one_that_is_masked():
    queries, items, held, candidates = domain(5, duplicates=100)
    lists = search.retrieve(queries, items, held, candidates, 10, 20).lists
    for user, listed in enumerate(lists):
        begin, end = held.masked.offsets[user : user + 2]
        assert len({*listed}) == 20 and candidates[listed].all()
        assert not {*listed} & {*held.masked.items[begin:end]}


def test_a_held_out_item_stands_where_its_rank_says():
    queries, items, held, candidates = domain(6)
    ranks, lists = search.retrieve(queries, items, held, candidates, 10, 10)
    is_first = (ranks.better < 10) & (ranks.tied > 0)
    assert 0 < is_first.sum() < len(is_first)
    at = (lists == held.items[:, None]).argmax(axis=1)
    np.testing.assert_array_equal(at[is_first], ranks.better[is_first])
    assert not (lists == held.items[:, None])[~is_first].any()


@pytest.mark.parametrize("duplicates", [0, 100])
def test_lists_depend_on_neither_chunks_nor_order(monkeypatch, duplicates):
    queries, items, held, candidates = domain(7, width=64, duplicates=duplicates)
    expected = search.retrieve(queries, items, held, candidates, 10, 10).lists
    order = np.random.default_rng(1).permutation(len(queries))
    for users, scores in [(1, 1 << 22), (7, 1 << 22), (64, 2000), (1000, 300)]:
        monkeypatch.setattr(search, "CHUNK_USERS", users)
        monkeypatch.setattr(search, "CHUNK_SCORES", scores)
        masked = sequences.take(held.masked, order)
        shuffled = split.HeldOut(held.histories, masked, held.items[order])
        lists = search.retrieve(queries[order], items, shuffled, candidates, 10, 10).lists
        np.testing.assert_array_equal(lists, expected[order])


def test_ties_past_what_was_found_are_listed_by_number():
    """Item 1 is best; of the 60 that tie behind it the lowest numbers follow, whatever FAISS finds.

    The held-out item is first, so that its rank is settled by what was found.
    """
    items = np.array([[0.0], [2.0], *[[1.0]] * 60], np.float32)
    held, candidates = held_out([1], [[3]]), np.arange(62) > 0
    query = np.ones((1, 1), np.float32)
    lists = search.retrieve(query, items, held, candidates, 4, 4).lists
    assert lists.tolist() == [[1, 2, 4, 5]]


def test_a_collapsed_model_recommends_the_first_items_to_all():
    items, queries = np.full((51, 512), 0.1, np.float32), np.full((30, 512), 0.3, np.float32)
    held = held_out(np.arange(30) + 1, [[1 + user % 2] for user in range(30)])
    lists = search.retrieve(queries, items, held, np.arange(51) > 0, 3, 3).lists
    assert lists[::2].tolist() == [[2, 3, 4]] * 15 and lists[1::2].tolist() == [[1, 3, 4]] * 15


def test_a_user_whose_rank_and_list_are_both_uncertain_is_scored_once(monkeypatch):
    scored, of_all = [], scoring.of_all

    def note(queries, items):
        scored.append(len(queries))
        return of_all(queries, items)

    monkeypatch.setattr(scoring, "of_all", note)
    held = held_out(np.arange(30) + 1, [[]] * 30)
    search.retrieve(np.ones((30, 8)), np.ones((51, 8)), held, np.arange(51) > 0, 3, 3)
    assert sum(scored) == 30


def test_scores_that_float32_takes_for_equal_are_told_apart():
    """Ten items a user lie within the tolerance: float32 finds them in any order."""
    queries, items, _, candidates = domain(4, users=30)
    rng = np.random.default_rng(0)
    candidates[:] = np.arange(len(items)) > 0
    direction = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    for user in range(30):
        apart = rng.uniform(-1, 1, 10) * search.TOLERANCE
        items[10 * user + 1 : 10 * user + 11] = (9 * (1 + apart))[:, None] * direction[user]
    held = held_out(np.ones(30, int), [[]] * 30)
    lists = search.retrieve(queries, items, held, candidates, 10, 10).lists
    np.testing.assert_array_equal(lists, by_hand(queries, items, held, candidates, 10))


@pytest.mark.parametrize(
    ("second", "last", "expected", "is_certain"),
    [
        (0.995, 0.5, 3, True),  # items 2 and 3 are within the tolerance: float64 has 3 before 2
        (0.98, 0.5, 2, True),  # 3 is not: float32 suffices
        (0.985, 0.985, 2, True),  # whatever was not found is as far
        (0.995, 0.995, 2, False),  # what was not found may be as close as the last one found
    ],
)
def test_what_float32_may_have_wrong_by_hand(second, last, expected, is_certain):
    """The best of the 9 found for k = 1 (with SPARE), the tolerance being 0.01.

    The search gave item 2 a score of 1 and item 3 one of `second`; in float64 they are 1 and 1.001.
    """
    items = np.array([[0], [0.1], [1], [1.001], *[[0.1]] * 6], np.float32)
    found = np.array([[2, 3, 1, 4, 5, 6, 7, 8, 9]])
    scores = np.array([[1, second, *[last] * 7]], np.float32)
    chunk = scoring.Chunk(
        np.ones((1, 1), np.float32), items, found, scores, np.zeros((1, 9), bool),
        np.array([0.01]), False,
    )  # fmt: skip
    listed, certain = recommended.of_search(chunk, 1)
    assert (listed.tolist(), certain.tolist()) == ([[expected]], [is_certain])


def test_what_is_found_suffices_where_nothing_is_tied(monkeypatch):
    """No exhaustive scoring, though the first masks are all among the best."""
    queries, items, _, candidates = domain(2)
    candidates[:] = np.arange(len(items)) > 0
    best = np.argsort(-(queries @ items.T), axis=1)
    held = held_out(best[:, 40], [[item for item in row[:12] if item] for row in best])
    expected = by_hand(queries, items, held, candidates, 10)
    monkeypatch.setattr(scoring, "of_all", lambda *_: pytest.fail("what was found is enough"))
    lists = search.retrieve(queries, items, held, candidates, 10, 10).lists
    np.testing.assert_array_equal(lists, expected)


def test_masks_longer_than_a_gpu_searches_are_listed_exhaustively(monkeypatch):
    queries, items, held, candidates = domain(2, duplicates=100)
    expected = search.retrieve(queries, items, held, candidates, 10, 10).lists
    monkeypatch.setattr(index.Flat, "limit", 20)
    lists = search.retrieve(queries, items, held, candidates, 10, 10).lists
    np.testing.assert_array_equal(lists, expected)


def test_near_ties_of_many_users_are_scored_again_in_little_memory():
    """All vectors at once would be 512 users x 58 items x 256 numbers x 12 bytes: 91 MB."""
    queries, items, held, candidates = domain(1, users=512, width=256, duplicates=150)
    tracemalloc.start()
    lists = search.retrieve(queries, items, held, candidates, 10, 50).lists
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6
    np.testing.assert_array_equal(lists, by_hand(queries, items, held, candidates, 50))


def exact(scores):
    """What counts where scores [B, N + 1] are exact: themselves."""
    return lambda row, found: scores[row, found]


def test_scores_of_all_items_by_hand():
    """Allowed are items 1, 3, 4 and 5; 3 and 5 are equal."""
    scores = np.array([[-np.inf, 0.5, -np.inf, 2.0, 1.0, 2.0]])
    assert recommended.of_scores(scores, 3, 0.0, exact(scores)).tolist() == [[3, 5, 4]]
    assert recommended.of_scores(scores, 5, 0.0, exact(scores)).tolist() == [[3, 5, 4, 1, 0]]
    assert recommended.of_scores(scores, 9, 0.0, exact(scores)).tolist() == [
        [3, 5, 4, 1, 0, 0, 0, 0, 0]
    ]


def test_rounding_decides_among_contenders_by_hand():
    """To one digit 0.98 and 1.02 are equal, and so are 0.5 and 0.52: item 1 comes before item 2."""
    scores = np.array([[-np.inf, 0.98, 1.02, 0.5, 0.52]])
    assert recommended.of_scores(scores, 3, 0.0, exact(scores)).tolist() == [[2, 1, 4]]
    rounded = lambda row, found: np.round(scores[row, found], 1)  # noqa: E731
    assert recommended.of_scores(scores, 3, 0.1, rounded).tolist() == [[1, 2, 3]]


@settings(max_examples=200)
@given(data=st.data(), k=st.integers(1, 15), floor=st.integers(-3, 3))
def test_a_floor_changes_no_list(data, k, floor):
    """Whether more or fewer than k scores are above it, at it or below it."""
    shown = st.sampled_from([-np.inf, -2.0, -1.0, 0.0, 1.0, 2.0])
    own = np.array(data.draw(st.lists(shown, min_size=1, max_size=20)))
    best = sorted((-score, item) for item, score in enumerate(own) if score > -np.inf)[:k]
    expected = [item for _, item in best] + [0] * (k - len(best))
    assert recommended.of_scores(own[None], k, 0.0, exact(own[None]), floor).tolist() == [expected]


@settings(max_examples=60)
@given(data=st.data(), k=st.integers(1, 15))
def test_lists_on_small_whole_numbers(data, k):
    """Small integers are exact in float32: ties abound."""
    U, N = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 40))
    numbers = st.integers(-2, 2)
    drawn = [data.draw(st.lists(numbers, min_size=2 * n, max_size=2 * n)) for n in (N + 1, U)]
    items, queries = (np.array(flat, np.float32).reshape(-1, 2) for flat in drawn)
    masks = data.draw(st.lists(st.lists(st.integers(1, N), max_size=N), min_size=U, max_size=U))
    candidates = np.array([False, *data.draw(st.lists(st.booleans(), min_size=N, max_size=N))])
    candidates[1] = True
    held = held_out([1] * U, masks)
    lists = search.retrieve(queries, items, held, candidates, 5, k).lists
    np.testing.assert_array_equal(lists, by_hand(queries, items, held, candidates, k))
