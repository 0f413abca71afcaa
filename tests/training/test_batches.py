import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.data import files, sequences, split
from pipeline.models.rows import Masking
from pipeline.training import batches
from tests.small_domains import NEGATIVES, PLAN, PROTOCOL, feed

N_ITEMS = 15
windows = st.lists(
    st.lists(st.integers(1, N_ITEMS), min_size=1, max_size=7), min_size=1, max_size=9
).filter(lambda rows: any(len(row) > 1 for row in rows))
names = st.sampled_from(["in_batch", "bce", "sampled_softmax", "full_softmax"])
maskings = st.sampled_from([None, Masking(share=0.4, last=0.2), Masking(share=0.9, last=0.0)])


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
        needed = set(flat) | set(items[batch.negatives.numpy()].ravel().tolist())
        assert set(items) == (set(range(1, N_ITEMS + 1)) if loss == "full_softmax" else needed)
        seen += held
    assert sorted(seen) == sorted(row for row in rows if len(row) > 1)


@settings(max_examples=60)
@given(
    rows=windows,
    seed=st.integers(0, 99),
    epoch=st.integers(0, 5),
    loss=st.sampled_from(["bce", "gbce", "bpr"]),
    masking=maskings,
    popularity=st.sampled_from([0.0, 0.5]),
)
def test_negatives_are_k_a_slot_and_never_of_the_own_training_window(
    rows, seed, epoch, loss, masking, popularity
):
    assume(popularity == 0 or len({item for row in rows for item in row}) > 7)
    fed = feed(rows, N_ITEMS, loss, 3, seed, masking, number=3, popularity=popularity)
    for step in range(fed.steps):
        batch = fed.batch(epoch, step)
        assert batch.negatives.shape == (len(batch.targets), 3)
        assert not batch.own()[batch.owners[:, None], batch.negatives].any()


def test_held_out_items_can_be_negatives():
    # Users 1 and 2 alone ever meet items 7, 8: as their held-out ones. Sparing them as negatives
    # would teach the model which items are never wrong.
    histories = sequences.from_rows([[1, 2, 3, 4, 7, 8], [2, 3, 4, 5, 8, 7]] * 4)
    parts = split.split(histories, 8, PROTOCOL)
    fed = batches.Batches(parts.train, parts.candidates, 8, "bce", NEGATIVES, seed=0)
    drawn, shared = set(), set()
    for epoch in range(10):
        batch = fed.batch(epoch, 0)
        drawn |= set(batch.items[batch.negatives[:, 0]].tolist())
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
        [b.items[b.negatives[:, 0]].numpy() for e in range(100) for b in [fed.batch(e, 0)]]
    )
    counts = np.bincount(drawn, minlength=11)[4:]
    assert len(drawn) == 10_000
    # 7 items, each with chance 1/7: a standard deviation of 35.
    assert np.abs(counts - 10_000 / 7).max() < 5 * 35


def is_equal(one, other):
    """Whether two batches hold the same tensors."""
    left, right = ([x for x in [*b, *b.rows] if torch.is_tensor(x)] for b in (one, other))
    pairs = zip(left, right, strict=True)
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("masking", [None, Masking(share=0.4, last=0.2)], ids=["next", "hidden"])
@pytest.mark.parametrize("loss", ["in_batch", "bce", "sampled_softmax"])
def test_a_batch_follows_from_seed_epoch_and_step_alone(loss, masking):
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, 40, rng.integers(2, 8)).tolist() for _ in range(30)]
    one, other = (feed(rows, 40, loss, n_users=8, seed=5, masking=masking) for _ in range(2))
    for epoch in range(3):  # this one is asked for all, in their order
        for step in range(one.steps):
            one.batch(epoch, step)
    torch.rand(3)
    again, alone = one.batch(1, 2), other.batch(1, 2)
    assert is_equal(again, alone)
    reseeded = feed(rows, 40, loss, 8, 6, masking).batch(1, 2)
    for changed in (other.batch(2, 2), other.batch(1, 1), reseeded):
        assert not is_equal(alone, changed)


def test_each_draw_has_a_generator_of_its_own(monkeypatch):
    """Of the first step too: NumPy takes a seed [a, b, 0] for [a, b]."""
    states, real = [], np.random.default_rng

    def noted(seed):
        states.append(tuple(np.random.SeedSequence(seed).generate_state(4)))
        return real(seed)

    fed = feed([[1, 2, 3], [4, 5]], 9, "bce", masking=Masking(share=0.4, last=0.2))
    monkeypatch.setattr(np.random, "default_rng", noted)
    fed.batch(1, 0)
    # The order of users; what is hidden; the negatives; which modalities are hidden.
    assert len(states) == len(set(states)) == 4


def test_a_user_with_one_training_item_has_nothing_to_predict_and_is_left_out():
    fed = feed([[1, 2], [3], [4, 5]], n_items=6, n_users=1)
    assert fed.steps == 2
    for step in range(2):
        assert len(fed.batch(0, step).targets) == 1
    with pytest.raises(files.Stop, match="no user has two items to learn from"):
        feed([[1], [2]], n_items=6)


@pytest.mark.parametrize(("rows", "users"), [([[1, 2], [3, 4]], 1), ([[1, 2], [3]], 8)])
def test_in_batch_needs_a_second_user_in_a_batch(rows, users):
    parts = split.Split(sequences.from_rows(rows), None, None, np.arange(5) > 0)
    plan = PLAN._replace(batch_users=users)
    with pytest.raises(
        files.Stop,
        match=rf"a batch has one user \(\d can learn, training.batch_users is {users}\): ",
    ):
        batches.of_plan(parts, plan, None, 0)
    assert batches.of_plan(parts, plan._replace(loss="bce"), None, 0).steps


def test_a_catalogue_too_small_for_negatives_stops():
    feed([[1, 2, 3]], n_items=4, loss="bce")
    for loss in ("bce", "gbce", "bpr"):
        with pytest.raises(files.Stop, match=r"up to 3 items, and there are only 3 to draw.*in_ba"):
            feed([[1, 2, 3]], n_items=3, loss=loss)
    with pytest.raises(files.Stop, match="only 3 to draw from"):
        feed([[1, 2, 3]], n_items=9, loss="bce", popularity=1.0)  # nobody met the rest
    feed([[1, 2, 3]], n_items=3, loss="in_batch")


def test_an_item_that_comes_again_leaves_as_many_to_draw():
    made = feed([[1, 2, 1, 2, 1, 2]], n_items=3, loss="bce")
    batch = made.batch(0, 0)
    assert set(batch.items[batch.negatives.flatten()].tolist()) == {3}


@settings(max_examples=40)
@given(
    rows=windows,
    of=st.integers(1, 5),
    loss=st.sampled_from(["in_batch", "bce", "sampled_softmax"]),
    masking=maskings,
)
def test_parts_of_a_batch_are_its_users_in_their_order_and_share_its_items(rows, of, loss, masking):
    whole = feed(rows, N_ITEMS, loss, n_users=9, masking=masking, number=2).batch(0, 0)
    parts = [whole.part(number, of) for number in range(of)]
    if masking is not None:  # a part's queries are those of the whole
        before = np.cumsum([0, *(len(part.inputs) for part in parts)])
        asked = [part.asked + first for part, first in zip(parts, before[:-1], strict=True)]
        assert torch.equal(torch.cat(asked), whole.asked)
    if loss == "sampled_softmax":
        assert all(torch.equal(part.negatives, whole.negatives) for part in parts)
    for name in ("inputs", "targets", *(["negatives"] if loss == "bce" else [])):
        joined = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(joined, getattr(whole, name))
    assert torch.equal(torch.cat([part.rows.lengths for part in parts]), whole.rows.lengths)
    assert torch.equal(torch.cat([part.own() for part in parts]), whole.own())
    sizes = [len(part.rows.lengths) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert sum(part.share for part in parts) == pytest.approx(1)
    for part in parts:
        assert part.share == pytest.approx(len(part.targets) / len(whole.targets))
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


def test_what_is_hidden_worked_by_hand():
    fed = feed([[3, 5, 3], [9, 5]], 9, n_users=2, masking=Masking(share=0.01, last=1.0))
    batch = fed.batch(0, 0)
    first = 0 if batch.rows.lengths[0] == 3 else 1
    assert batch.items.tolist() == [3, 5, 9]
    owners = batch.rows.owners
    assert batch.inputs[owners == first].tolist() == [0, 1, 3]  # 3 5 [MASK]
    assert batch.inputs[owners == 1 - first].tolist() == [2, 3]  # 9 [MASK]
    assert batch.targets[batch.owners == first].tolist() == [0]
    assert batch.targets[batch.owners == 1 - first].tolist() == [1]
    assert batch.own()[first].tolist() == [True, True, False]
    assert batch.own()[1 - first].tolist() == [False, True, True]
    assert batch.counts.tolist() == [2, 2, 1]


@settings(max_examples=60)
@given(rows=windows, masking=maskings.filter(lambda m: m is not None), loss=names)
def test_hidden_items_are_masks_at_their_place_and_every_history_hides_one(rows, masking, loss):
    fed = feed(rows, N_ITEMS, loss, n_users=3, masking=masking)
    for step in range(fed.steps):
        batch = fed.batch(0, step)
        M, items = len(batch.items), batch.items.numpy()
        assert torch.equal(torch.nonzero(batch.inputs == M)[:, 0], batch.asked)
        restored = batch.inputs.clone()
        restored[batch.asked] = batch.targets
        held = np.split(items[restored.numpy()], np.cumsum(batch.rows.lengths.numpy())[:-1])
        users = fed.order(0)[step * 3 : step * 3 + 3]
        assert [row.tolist() for row in held] == [rows[user] for user in users]
        assert set(batch.owners.tolist()) == set(range(batch.users))
