from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipeline.data import sequences, split
from pipeline.retrieval import baselines, metrics, search

REAL = Path(__file__).parents[3] / "shared" / "data"
PAPER = split.Protocol(
    min_items=5, window=23, train="window", mask="window", catalogue="window", select="hr@10"
)


def real(name):
    """Read a real data set in a few lines, apart from the project's own readers."""
    if not REAL.is_dir():
        pytest.skip(f"no real data at {REAL}")
    pairs = pl.read_csv(
        REAL / name / f"{name}_pair.csv.gz", has_header=False, new_columns=["user", "item", "time"]
    )
    ids = pl.read_csv(REAL / name / f"{name}_item.csv.gz", has_header=False).to_series(0).to_list()
    numbers = pl.col("item").replace_strict(ids, range(1, len(ids) + 1), return_dtype=pl.Int32)
    pairs = pairs.with_row_index("line").sort("time", "line").with_columns(numbers)
    rows = pairs.group_by("user", maintain_order=True).agg("item")["item"].to_list()
    lists = sequences.from_rows([row for row in rows if len(row) >= PAPER.min_items])
    return split.split(lists, len(ids), PAPER)


@pytest.mark.parametrize(
    ("name", "candidates", "popularity", "itemknn"),
    [
        ("MLS", 3217, 0.0349, 0.0734),
        ("HM", 7669, 0.0419, 0.0822),
        ("ML1M", 3232, 0.0300, 0.1546),
    ],
)
def test_known_numbers_of_real_data(name, candidates, popularity, itemknn):
    divided = real(name)
    assert divided.candidates.sum() == candidates
    for recommender, expected in [
        (baselines.popularity, popularity),
        (baselines.itemknn, itemknn),
    ]:
        ranks = recommender(
            divided.train, divided.test, divided.candidates, metrics.CUTOFF, 0
        ).ranks
        assert metrics.summary(ranks, [10])["hr@10"] == pytest.approx(expected, abs=0.001)


@pytest.fixture
def small():
    """Three users; items 1 and 2 go together, so do 3 and 4; 5 is only held out."""
    rows = [[1, 2, 1, 5, 2], [1, 2, 2, 3, 4], [3, 4, 3, 4, 1]]
    protocol = PAPER.model_copy(update={"mask": "none"})
    return split.split(sequences.from_rows(rows), 5, protocol)


def test_popularity_by_hand(small):
    """Train parts 1 2 1, 1 2 2, 3 4 3: items 1 and 2 stand 3 times, 3 twice, 4 once, 5 never."""
    ranks, lists = baselines.popularity(small.train, small.test, small.candidates, 10, 4)
    assert small.test.items.tolist() == [2, 4, 1]
    assert ranks.better.tolist() == [0, 3, 0]
    assert ranks.tied.tolist() == [2, 1, 2]
    assert lists.tolist() == [[1, 2, 3, 4]] * 3  # nothing is masked


def test_large_counts_one_apart_are_no_ties():
    """Item 2 stands 1,000,001 times, item 1 once less: apart by less than float32 search tells."""
    counts = [0, 1_000_000, 1_000_001]
    train = sequences.Lists(
        np.repeat(np.arange(3, dtype=np.int32), counts), np.array([0, sum(counts)])
    )
    nothing = sequences.from_rows([[]])
    held_out = split.HeldOut(nothing, nothing, np.array([1], np.int32))
    ranks = baselines.popularity(train, held_out, np.arange(3) > 0, 10, 0).ranks
    assert (ranks.better.tolist(), ranks.tied.tolist()) == ([1], [1])


def test_itemknn_by_hand(small):
    """Items 1 and 2 share both users, 3 and 4 their one user: cosines of 1 within, 0 between.

    Validation histories are the train parts, their items each counted once: user 0 has {1, 2} and
    gives 1 and 2 a score of 2, the rest 0; held out is 5. User 2 has {3, 4}, held out is 4.
    """
    ranks, lists = baselines.itemknn(small.train, small.valid, small.candidates, 10, 3)
    assert small.valid.items.tolist() == [5, 3, 4]
    assert ranks.better.tolist() == [2, 2, 0]
    assert ranks.tied.tolist() == [3, 3, 2]
    assert lists.tolist() == [[1, 2, 3], [1, 2, 3], [3, 4, 1]]


@pytest.mark.parametrize("held_out", [4, 5])
def test_sums_of_the_same_cosines_in_another_order_are_ties(held_out):
    """Cosines of 1, 2, 3 to 4 are 1/√35, 2/√28, 4/√35, to 5 the same from the other end.

    Items 1 and 3 have 5 users each, 2 has 4; 4 and 5 have 7.
    """
    rows = [[item, 4] for item, users in [(1, 1), (2, 2), (3, 4)] for _ in range(users)]
    rows += [[item, 5] for item, users in [(1, 4), (2, 2), (3, 1)] for _ in range(users)]
    history, nothing = sequences.from_rows([[1, 2, 3]]), sequences.from_rows([[]])
    asked = split.HeldOut(history, nothing, np.array([held_out], np.int32))
    ranks = baselines.itemknn(sequences.from_rows(rows), asked, np.arange(6) > 3, 10, 0).ranks
    assert (ranks.better.tolist(), ranks.tied.tolist()) == ([0], [2])


def test_itemknn_does_not_depend_on_its_chunks_and_counts_them(monkeypatch, small, slow, capsys):
    expected = baselines.itemknn(small.train, small.test, small.candidates, 10, 3)
    monkeypatch.setattr(baselines, "CHUNK_SCORES", 1)
    chunked = baselines.itemknn(small.train, small.test, small.candidates, 10, 3)
    users = len(small.test.items)
    said = [line.split(", ")[1] for line in capsys.readouterr().err.splitlines()]
    counted = [f"users: {done} of {users}" for done in range(1, users + 1)]
    assert said == [counted[-1], *counted]
    np.testing.assert_array_equal(chunked.ranks, expected.ranks)
    np.testing.assert_array_equal(chunked.lists, expected.lists)


def sparse():
    """30 users of 2 to 15 items among 200, so that most similarities are 0."""
    rng = np.random.default_rng(0)
    rows = [rng.choice(200, rng.integers(5, 16)) + 1 for _ in range(30)]
    return split.split(sequences.from_rows(rows), 200, PAPER)


@pytest.mark.parametrize("k", [1, 60, 250])
def test_itemknn_lists_are_those_of_all_scores_in_order(k):
    """Cosines from the definition; some users have fewer than 60 above 0, none has 250 items."""
    divided = sparse()
    had = np.zeros((30, 201))
    had[sequences.owners(divided.train), divided.train.items] = 1
    lengths = np.maximum(np.sqrt((had**2).sum(axis=0)), 1)
    cosines = had.T @ had / lengths / lengths[:, None]
    lists = baselines.itemknn(divided.train, divided.test, divided.candidates, 10, k).lists
    above = []
    for user, listed in enumerate(lists):
        recent = {*sequences.take(divided.test.histories, np.array([user])).items[-10:].tolist()}
        masked = {*sequences.take(divided.test.masked, np.array([user])).items.tolist()}
        scores = np.round(cosines[sorted(recent)].sum(axis=0), 9)
        rivals = [item for item in np.flatnonzero(divided.candidates) if item not in masked]
        best = sorted(rivals, key=lambda item: (-scores[item], item))[:k]
        assert listed.tolist() == best + [0] * (k - len(best))
        above.append((scores[rivals] > 0).sum())
    assert min(above) < 60 < max(above)


def test_itemknn_parts_no_scores_but_those_above_0_and_masks_once(monkeypatch):
    """A partition of values that are mostly equal takes many times as long as of others."""
    divided = sparse()
    given, allowed, part, allow = [], [], np.partition, search.allow
    monkeypatch.setattr(np, "partition", lambda values, k: given.append(values) or part(values, k))
    monkeypatch.setattr(search, "allow", lambda *known: allowed.append(known) or allow(*known))
    baselines.itemknn(divided.train, divided.test, divided.candidates, 10, 60)
    assert 0 < len(given) < 30 and min(values.min() for values in given) > 0
    assert len(allowed) == 1


def test_contentknn_finds_the_item_that_says_the_same(small):
    text = np.zeros((6, 3), np.float32)
    text[1:] = [[5, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0.1, 0.1], [0, 0, 0]]  # item 5 says nothing
    ranks, lists = baselines.contentknn([text], small.valid, small.candidates, 10, 2)
    assert ranks.better.tolist()[0] == 2  # 1 and 2 look like the history; 3, 4 and 5 score 0
    assert ranks.tied.tolist()[0] == 3
    assert lists.tolist()[0] == [1, 2]
    both = baselines.contentknn([text, text], small.valid, small.candidates, 10, 2)
    np.testing.assert_array_equal(both.ranks, ranks)


def test_contentknn_weighs_modalities_alike_whatever_their_scale():
    """Cosines to item 1: of item 2 1 + 0, of item 3 0 + 0.6, of item 4 0.8 + 0.8."""
    text = np.array([[0, 0], [2, 0], [3, 0], [0, 1], [0.8, 0.6]], np.float32)
    image = 100 * np.array([[0, 0], [1, 0], [0, 1], [0.6, 0.8], [0.8, 0.6]], np.float32)
    nothing = sequences.from_rows([[]])
    held_out = split.HeldOut(sequences.from_rows([[1]]), nothing, np.array([4], np.int32))
    found = baselines.contentknn([text, image], held_out, np.arange(5) > 1, 10, 3)
    assert found.lists.tolist() == [[4, 2, 3]]


def test_contentknn_looks_at_the_last_ten_items():
    """Item 1, the oldest of 11, says what 12 says; 13 says what the others do, 14 neither."""
    text = np.zeros((15, 3), np.float32)
    text[[1, 12], 0], text[[*range(2, 12), 13], 1], text[14, 2] = 1, 1, 1
    history = sequences.from_rows([range(1, 12)])
    held_out = split.HeldOut(history, history, np.array([12], np.int32))
    ranks = baselines.contentknn([text], held_out, np.arange(15) > 0, 10, 0).ranks
    assert (ranks.better.tolist(), ranks.tied.tolist()) == ([1], [2])  # 13; 12 and 14
