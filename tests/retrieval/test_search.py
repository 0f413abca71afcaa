import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data import sequences, split
from pipeline.retrieval import index, metrics, ranking, scoring, search


def held_out(items, masked):
    lists = sequences.from_rows(masked)
    return split.HeldOut(histories=lists, masked=lists, items=np.asarray(items, np.int32))


def domain(seed, users=200, n_items=300, width=16, longest=12, duplicates=0):
    """Random vectors and masks; the last `duplicates` items are copies of the first ones."""
    U, N, D = users, n_items, width
    rng = np.random.default_rng(seed)
    items = rng.standard_normal((N + 1, D), dtype=np.float32)
    if duplicates:
        items[-duplicates:] = items[1 : duplicates + 1]
    masked = [rng.choice(np.arange(1, N + 1), rng.integers(0, longest + 1)) for _ in range(U)]
    candidates = rng.random(N + 1) < 0.9
    candidates[0] = False
    queries = rng.standard_normal((U, D), dtype=np.float32)
    return queries, items, held_out(rng.integers(1, N + 1, U), masked), candidates


def brute_force(queries, items, held, candidates, depth):
    """One user after another, in float64, with plain comparisons."""
    expected = []
    largest = np.linalg.norm(items[candidates].astype(np.float64), axis=1).max()
    for user, target in enumerate(held.items):
        begin, end = held.masked.offsets[user : user + 2]
        rivals = set(np.flatnonzero(candidates)) - set(held.masked.items[begin:end])
        if target not in rivals:
            expected.append((0, 0))
            continue
        query = queries[user].astype(np.float64)
        scores = {item: float(query @ items[item].astype(np.float64)) for item in rivals}
        slack = search.TOLERANCE * np.linalg.norm(query) * largest
        better = sum(score > scores[target] + slack for score in scores.values())
        tied = sum(abs(score - scores[target]) <= slack for score in scores.values())
        expected.append((better, tied) if better < depth else (depth, 0))
    return np.array(expected).T


@pytest.mark.parametrize(("seed", "duplicates"), [*itertools.product(range(3), [0, 100])])
@pytest.mark.parametrize("depth", [1, 10, 400])
def test_rank_agrees_with_brute_force(seed, duplicates, depth):
    queries, items, held, candidates = domain(seed, duplicates=duplicates)
    ranks = search.rank(queries, items, held, candidates, depth)
    np.testing.assert_array_equal(ranks, brute_force(queries, items, held, candidates, depth))
    assert ranks.better.dtype == ranks.tied.dtype == np.int32


def test_rank_agrees_with_ranx(monkeypatch):
    """Without ties the expected value is the value, as an independent library computes it."""
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # to compile it takes longer than to run it
    ranx = pytest.importorskip("ranx")
    queries, items, held, candidates = domain(5, users=60)
    kept = ranking.reachable(held, candidates)
    scores = queries.astype(np.float64) @ items.astype(np.float64).T
    run = {}
    for user in np.flatnonzero(kept):
        begin, end = held.masked.offsets[user : user + 2]
        rivals = set(np.flatnonzero(candidates)) - set(held.masked.items[begin:end])
        run[f"u{user}"] = {f"v{item}": scores[user, item] for item in rivals}
    qrels = {f"u{user}": {f"v{held.items[user]}": 1} for user in np.flatnonzero(kept)}
    expected = ranx.evaluate(
        ranx.Qrels(qrels), ranx.Run(run), ["hit_rate@10", "ndcg@10", "mrr@10"], make_comparable=True
    )
    ranks = search.rank(queries, items, held, candidates, 10)
    found = ranking.Ranks(ranks.better[kept], ranks.tied[kept])
    ours = {"hr@10": "hit_rate@10", "ndcg@10": "ndcg@10", "mrr@10": "mrr@10"}
    assert metrics.summary(found, [10]) == pytest.approx(
        {name: expected[theirs] for name, theirs in ours.items()}
    )


@pytest.mark.parametrize("duplicates", [0, 100])
def test_ranks_depend_on_neither_chunks_nor_order(monkeypatch, duplicates):
    queries, items, held, candidates = domain(7, width=64, duplicates=duplicates)
    expected = search.rank(queries, items, held, candidates, 10)
    order = np.random.default_rng(1).permutation(len(queries))
    for users, scores in [(1, 1 << 22), (7, 1 << 22), (64, 2000), (1000, 300)]:
        monkeypatch.setattr(search, "CHUNK_USERS", users)
        monkeypatch.setattr(search, "CHUNK_SCORES", scores)
        shuffled = split.HeldOut(
            histories=held.histories,
            masked=sequences.take(held.masked, order),
            items=held.items[order],
        )
        ranks = search.rank(queries[order], items, shuffled, candidates, 10)
        np.testing.assert_array_equal(ranks.better, expected.better[order])
        np.testing.assert_array_equal(ranks.tied, expected.tied[order])


def test_no_user_is_given_the_mask_of_another(monkeypatch):
    """Every held-out item is among the first, so that every mask is looked at; 7 at once."""
    _, items, held, candidates = domain(8)
    queries = items[held.items]
    expected = brute_force(queries, items, held, candidates, 10)
    monkeypatch.setattr(search, "CHUNK_SCORES", 7 * len(items))
    np.testing.assert_array_equal(search.rank(queries, items, held, candidates, 10), expected)


@pytest.mark.parametrize("k", [0, 10])
def test_each_mask_is_looked_at_once(monkeypatch, k):
    """Every held-out item is among the first, so that ranks ask for every mask; so do lists."""
    _, items, held, candidates = domain(8)
    looked, is_masked = [], search._is_masked
    note = lambda found, *known: looked.append(len(found)) or is_masked(found, *known)  # noqa: E731
    monkeypatch.setattr(search, "_is_masked", note)
    search.retrieve(items[held.items], items, held, candidates, 10, k)
    assert sum(looked) == len(held.items)


def test_masks_longer_than_a_gpu_searches_are_ranked_exhaustively(monkeypatch):
    """A GPU finds so many neighbours at most: here as if 15, with users who mask up to 12."""
    queries, items, held, candidates = domain(2)
    expected = search.rank(queries, items, held, candidates, 10)
    depths, found = [], index.Flat.search
    monkeypatch.setattr(index.Flat, "limit", 15)
    monkeypatch.setattr(search, "CHUNK_USERS", 20)
    note = lambda flat, q, k: depths.append(k) or found(flat, q, k)  # noqa: E731
    monkeypatch.setattr(index.Flat, "search", note)
    ranks = search.rank(queries, items, held, candidates, 10)
    np.testing.assert_array_equal(ranks, expected)
    assert depths and max(depths) <= 15


@pytest.mark.parametrize("value", [0.0, 0.1, 3e4])
def test_a_collapsed_model_scores_chance_exactly(value):
    N, U, K = 50, 30, 10
    items, queries = np.full((N + 1, 512), value, np.float32), np.full((U, 512), 0.3, np.float32)
    held = held_out(np.arange(U) + 1, [[] for _ in range(U)])
    candidates = np.arange(N + 1) > 0
    ranks = search.rank(queries, items, held, candidates, K)
    assert (ranks.better == 0).all() and (ranks.tied == N).all()
    assert metrics.summary(ranks, [K]) == pytest.approx(
        metrics.chance(np.full(U, N), [K]), abs=1e-15
    )
    assert metrics.chance(np.array([N]), [K])["hr@10"] == K / N


def test_items_with_equal_vectors_share_their_rank():
    queries, items, held, candidates = domain(3, width=512, n_items=200)
    candidates[:] = True
    candidates[0] = False
    items[101:] = items[1:101]  # item i and item i + 100 are the same
    twin = np.where(held.items > 100, held.items - 100, held.items + 100).astype(np.int32)
    nothing = sequences.from_rows([[]] * len(queries))
    here = search.rank(queries, items, split.HeldOut(nothing, nothing, held.items), candidates, 200)
    there = search.rank(queries, items, split.HeldOut(nothing, nothing, twin), candidates, 200)
    assert (here.tied >= 2).all() and (here.tied == 2).mean() > 0.95  # few others are as close
    np.testing.assert_array_equal(here, there)


def test_a_masked_held_out_item_is_a_miss_and_is_counted():
    items = np.eye(4, dtype=np.float32)
    queries = items[[1, 1, 1]]
    held = held_out([1, 1, 3], [[2], [1, 2], [1]])
    candidates = np.array([False, True, True, False])
    ranks = search.rank(queries, items, held, candidates, 2)
    assert ranking.reachable(held, candidates).tolist() == [True, False, False]
    assert ranks.tied.tolist() == [1, 0, 0]  # found; in its own mask; no candidate
    assert metrics.hit(ranks, 2).tolist() == [1.0, 0.0, 0.0]


def test_only_candidates_count():
    items = np.array([[9.0], [1.0], [2.0], [3.0]], np.float32)
    held = held_out([1], [[]])
    everything, fewer = np.array([False, True, True, True]), np.array([False, True, False, True])
    one = np.ones((1, 1), np.float32)
    assert search.rank(one, items, held, everything, 3).better.tolist() == [2]
    assert search.rank(one, items, held, fewer, 3).better.tolist() == [1]


def test_ties_past_the_search_depth_are_all_counted():
    """Depth 2 finds 2 of the 5 tied items: the other 3 must not be forgotten."""
    items = np.array([[0.0], [2.0], [1.0], [1.0], [1.0], [1.0], [1.0], [0.5]], np.float32)
    ranks = search.rank(
        np.ones((1, 1), np.float32), items, held_out([6], [[]]), np.arange(8) > 0, 2
    )
    assert (ranks.better[0], ranks.tied[0]) == (1, 5)
    assert metrics.hit(ranks, 2)[0] == (2 - 1) / 5


def test_scores_about_the_tolerance_apart_are_told_apart_exactly(monkeypatch):
    """Eight items each lie within twice the tolerance of the held-out one: float32 could err."""
    U, longest = 30, 100.0
    rng = np.random.default_rng(4)
    queries, items, _, _ = domain(4, users=U, n_items=10 * U)
    direction = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    items[-1] = longest * direction[0]  # the tolerance is a share of the largest item's length
    targets = 10 * np.arange(U) + 1
    for user, target in enumerate(targets[1:], start=1):
        apart = rng.uniform(-2, 2, 8) * search.TOLERANCE * longest
        items[target : target + 9] = (30 + np.array([0, *apart]))[:, None] * direction[user]
    held, candidates = held_out(targets, [[]] * U), np.arange(len(items)) > 0
    expected = brute_force(queries, items, held, candidates, 20)
    monkeypatch.setattr(scoring, "of_all", lambda *_: pytest.fail("what was found is enough"))
    np.testing.assert_array_equal(search.rank(queries, items, held, candidates, 20), expected)


def test_a_mask_longer_than_the_catalogue_leaves_nothing_but_the_rest():
    items = np.arange(5, dtype=np.float32)[:, None]
    held = held_out([1, 4], [[4, 3, 4, 3, 4, 3, 4, 3], []])
    ranks = search.rank(np.ones((2, 1), np.float32), items, held, np.arange(5) > 0, 10)
    assert ranks.better.tolist() == [1, 0]


@pytest.mark.parametrize("where", ["query", "item"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_of_a_diverged_model_are_refused(where, value):
    queries, items, held, candidates = domain(0)
    first = np.flatnonzero(candidates)[0]
    if where == "query":
        queries[3, 1] = value
    else:
        items[first, 0] = value
    total = {"query": len(queries), "item": candidates.sum()}[where]
    with pytest.raises(
        ValueError, match=rf"1 of {total} {where} vectors hold NaN or infinity.*learning rate"
    ):
        search.rank(queries, items, held, candidates, 10)


def test_a_vector_that_is_no_candidate_may_be_anything():
    queries, items, held, candidates = domain(0)
    expected = search.rank(queries, items, held, candidates, 10)
    items[0] = np.nan
    np.testing.assert_array_equal(search.rank(queries, items, held, candidates, 10), expected)


def test_shapes_must_fit():
    queries, items, held, candidates = domain(0)
    with pytest.raises(ValueError, match=r"199 queries for 200 users.*made for this domain"):
        search.rank(queries[1:], items, held, candidates, 10)
    with pytest.raises(ValueError, match=r"301 candidates, PAD is one of them.*split\.candidates"):
        search.rank(queries, items, held, np.ones(len(items), bool), 10)
    with pytest.raises(ValueError, match="0 candidates, PAD is not one of them"):
        search.rank(queries, items, held, np.zeros(len(items), bool), 10)


@settings(max_examples=60)
@given(data=st.data(), depth=st.integers(1, 15))
def test_properties_on_small_whole_numbers(data, depth):
    """Small integers are exact in float32: ties abound, and brute force is exact."""
    U, N = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 12))
    numbers = st.integers(-2, 2)
    items = np.array(
        data.draw(st.lists(numbers, min_size=2 * N + 2, max_size=2 * N + 2)), np.float32
    ).reshape(N + 1, 2)
    queries = np.array(
        data.draw(st.lists(numbers, min_size=2 * U, max_size=2 * U)), np.float32
    ).reshape(U, 2)
    targets = data.draw(st.lists(st.integers(1, N), min_size=U, max_size=U))
    masks = data.draw(st.lists(st.lists(st.integers(1, N), max_size=2 * N), min_size=U, max_size=U))
    candidates = np.array([False, *data.draw(st.lists(st.booleans(), min_size=N, max_size=N))])
    candidates[1] = True
    held = held_out(targets, masks)
    ranks = search.rank(queries, items, held, candidates, depth)
    np.testing.assert_array_equal(ranks, brute_force(queries, items, held, candidates, depth))
    assert (ranks.better + ranks.tied <= np.maximum(candidates.sum(), depth)).all()
    assert ((ranks.tied > 0) <= ranking.reachable(held, candidates)).all()
    larger = search.rank(queries, items, held, candidates, depth + 1)
    np.testing.assert_allclose(metrics.hit(ranks, depth), metrics.hit(larger, depth))
    assert (metrics.ndcg(ranks, depth) <= metrics.hit(ranks, depth) + 1e-12).all()


def test_progress_counts_each_user_once_however_it_is_ranked(slow, capsys, monkeypatch):
    """Two chunks by the index, the users of the longest masks and of wide ties by all scores."""
    monkeypatch.setattr(search, "CHUNK_USERS", 150)
    queries, items, held, candidates = domain(3, duplicates=100)
    queries[:20] = 0  # all candidates are tied
    search.retrieve(queries, items, held, candidates, 10, 5)
    done = [int(line.split()[2]) for line in capsys.readouterr().err.splitlines()]
    assert len(done) > 2 and done == sorted(done) and 0 < done[-2] < done[-1] == len(queries)
