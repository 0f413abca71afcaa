import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data import files, sequences, split
from pipeline.training import batches
from tests.small_domains import NEGATIVES, PROTOCOL, feed

N_ITEMS = 15
windows = st.lists(
    st.lists(st.integers(1, N_ITEMS), min_size=1, max_size=7), min_size=1, max_size=9
).filter(lambda rows: any(len(row) > 1 for row in rows))
names = st.sampled_from(["in_batch", "bce", "full_softmax"])


def test_worked_by_hand():
    # In one batch of all users; their order is drawn, so look users up by their first item.
    fed = feed([[3, 5, 3], [9, 5]], n_items=9, n_users=2)
    batch = fed.batch(0, 0)
    first = 0 if batch.items[batch.inputs[0]] == 3 else 1
    owners = batch.rows.owners
    assert batch.items.tolist() == [3, 5, 9]
    assert batch.inputs[owners == first].tolist() == [0, 1]  # 3 5
    assert batch.inputs[owners == 1 - first].tolist() == [2]  # 9
    assert batch.rows.lengths[[first, 1 - first]].tolist() == [2, 1]
    # The next items: 5 and 3 of the one user, 5 of the other.
    assert batch.targets[owners == first].tolist() == [1, 0]
    assert batch.targets[owners == 1 - first].tolist() == [1]
    assert batch.counts.tolist() == [2, 2, 1]
    assert batch.own()[first].tolist() == [True, True, False]
    assert batch.own()[1 - first].tolist() == [False, True, True]
    assert batch.log_share.tolist() == pytest.approx(np.log([2 / 5, 2 / 5, 1 / 5]).tolist())
    assert len(batch.negatives) == 0


@settings(max_examples=60)
@given(rows=windows, loss=names, n_users=st.integers(1, 4), epoch=st.integers(0, 3))
def test_an_epoch_predicts_every_next_item_once_from_distinct_ascending_items(
    rows, loss, n_users, epoch
):
    fed = feed(rows, N_ITEMS, loss, n_users)
    seen = []
    for step in range(fed.steps):
        batch = fed.batch(epoch, step)
        items, owners = batch.items.numpy(), batch.rows.owners.numpy()
        assert items.min() > 0  # PAD is never encoded
        assert (np.diff(items) > 0).all()
        assert len(batch.draws[0]) == len(items)
        held = [[] for _ in range(batch.users)]
        for row in range(batch.users):
            inputs = items[batch.inputs.numpy()[owners == row]]
            targets = items[batch.targets.numpy()[owners == row]]
            assert len(inputs) == batch.rows.lengths[row]
            window = [*inputs.tolist(), int(targets[-1])]
            assert targets.tolist() == window[1:]  # a slot's target is the item after its input
            held[row] = window
        flat = [item for window in held for item in window]
        assert batch.counts.tolist() == [flat.count(item) for item in items]
        assert batch.own().tolist() == [[item in window for item in items] for window in held]
        needed = set(flat) | set(items[batch.negatives.numpy()].tolist())
        assert set(items) == (set(range(1, N_ITEMS + 1)) if loss == "full_softmax" else needed)
        seen += held
    assert sorted(seen) == sorted(row for row in rows if len(row) > 1)


@settings(max_examples=60)
@given(rows=windows, seed=st.integers(0, 99), epoch=st.integers(0, 5))
def test_negatives_are_one_a_slot_and_never_of_the_own_training_window(rows, seed, epoch):
    fed = feed(rows, N_ITEMS, "bce", n_users=3, seed=seed)
    for step in range(fed.steps):
        batch = fed.batch(epoch, step)
        assert batch.negatives.shape == batch.targets.shape
        assert not batch.own()[batch.rows.owners, batch.negatives].any()


def test_held_out_items_can_be_negatives():
    # Users 1 and 2 alone ever meet items 7, 8: as their held-out ones. Sparing them as negatives
    # would teach the model which items are never wrong.
    histories = sequences.from_rows([[1, 2, 3, 4, 7, 8], [2, 3, 4, 5, 8, 7]] * 4)
    parts = split.split(histories, 8, PROTOCOL)
    fed = batches.Batches(parts.train, parts.candidates, 8, "bce", NEGATIVES, seed=0)
    drawn, shared = set(), set()
    for epoch in range(10):
        batch = fed.batch(epoch, 0)
        drawn |= set(batch.items[batch.negatives].tolist())
        shared |= set(batch.items.tolist())
    assert {7, 8} <= drawn
    in_batch = batches.Batches(parts.train, parts.candidates, 8, "in_batch", NEGATIVES, seed=0)
    assert not in_batch.batch(0, 0).own().all(1).any()


def test_a_held_out_item_is_an_in_batch_negative_of_its_own_user():
    # Item 5 is held out of user 0, and stands in user 1's training window.
    histories = sequences.from_rows([[1, 2, 3, 6, 5], [4, 5, 4, 2, 3]])
    parts = split.split(histories, 6, PROTOCOL)
    batch = batches.Batches(parts.train, parts.candidates, 2, "in_batch", NEGATIVES, 0).batch(0, 0)
    user = int(batch.rows.owners[batch.items[batch.inputs] == 1][0])
    assert not batch.own()[user, batch.items.tolist().index(5)]


def test_negatives_are_uniform_over_the_rest_of_the_catalogue():
    fed = feed([[1, 2, 3]] * 50, n_items=10, loss="bce", n_users=50)
    drawn = np.concatenate(
        [b.items[b.negatives].numpy() for e in range(100) for b in [fed.batch(e, 0)]]
    )
    counts = np.bincount(drawn, minlength=11)[4:]
    assert len(drawn) == 10_000
    # 7 items, each with chance 1/7: a standard deviation of 35.
    assert np.abs(counts - 10_000 / 7).max() < 5 * 35


def is_equal(one, other):
    """Whether two batches hold the same tensors."""
    left, right = ([*b[:5], *b.rows, *b[6:8]] for b in (one, other))
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("loss", ["in_batch", "bce"])
def test_a_batch_follows_from_seed_epoch_and_step_alone(loss):
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, 40, rng.integers(2, 8)).tolist() for _ in range(30)]
    one, other = (feed(rows, 40, loss, n_users=8, seed=5) for _ in range(2))
    for epoch in range(3):  # this one is asked for all, in their order
        for step in range(one.steps):
            one.batch(epoch, step)
    torch.rand(3)
    again, alone = one.batch(1, 2), other.batch(1, 2)
    assert is_equal(again, alone)
    for changed in (other.batch(2, 2), other.batch(1, 1), feed(rows, 40, loss, 8, 6).batch(1, 2)):
        assert not is_equal(alone, changed)


def test_a_user_with_one_training_item_has_nothing_to_predict_and_is_left_out():
    fed = feed([[1, 2], [3], [4, 5]], n_items=6, n_users=1)
    assert fed.steps == 2
    for step in range(2):
        assert len(fed.batch(0, step).targets) == 1
    with pytest.raises(files.Stop, match="no user has two items to learn from"):
        feed([[1], [2]], n_items=6)


def test_a_catalogue_too_small_for_negatives_stops():
    feed([[1, 2, 3]], n_items=4, loss="bce")
    with pytest.raises(files.Stop, match=r"up to 3 items, and the catalogue has only 3.*in_batch"):
        feed([[1, 2, 3]], n_items=3, loss="bce")
    feed([[1, 2, 3]], n_items=3, loss="in_batch")


@settings(max_examples=40)
@given(rows=windows, of=st.integers(1, 5), loss=st.sampled_from(["in_batch", "bce"]))
def test_parts_of_a_batch_are_its_users_in_their_order_and_share_its_items(rows, of, loss):
    whole = feed(rows, N_ITEMS, loss, n_users=9).batch(0, 0)
    parts = [whole.part(number, of) for number in range(of)]
    for name in ("inputs", "targets", "negatives"):
        joined = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(joined, getattr(whole, name))
    assert torch.equal(torch.cat([part.rows.lengths for part in parts]), whole.rows.lengths)
    assert torch.equal(torch.cat([part.own() for part in parts]), whole.own())
    sizes = [len(part.rows.lengths) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert sum(part.share for part in parts) == pytest.approx(1)
    for part in parts:
        assert part.share == pytest.approx(len(part.inputs) / len(whole.inputs))
        assert torch.equal(part.items, whole.items)
        assert torch.equal(part.counts, whole.counts)
        assert part.users == whole.users


def test_batches_made_ahead_come_in_their_order():
    fed = feed([[n, n + 1] for n in range(1, 30)], n_items=40, n_users=3)
    there = list(fed.epoch(2, 4, torch.device("meta")))  # any device but the CPU
    assert len(there) == fed.steps - 4
    for step, batch in enumerate(there, 4):
        assert torch.equal(batch.items, fed.batch(2, step).items)
        assert batch.inputs.device.type == batch.rows.grid.device.type == "meta"
        assert batch.items.device.type == batch.draws.device.type == "cpu"


def test_an_error_in_a_batch_made_ahead_is_raised(monkeypatch):
    fed = feed([[n, n + 1] for n in range(1, 30)], n_items=40, n_users=3)
    monkeypatch.setattr(fed, "train", None)
    with pytest.raises(AttributeError, match="offsets"):
        list(fed.epoch(0, 0, torch.device("meta")))
