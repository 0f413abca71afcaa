"""Each loss against a plain loop over every slot, in float64; and one table worked by hand."""

import math

import numpy as np
import pytest
import torch

from pipeline.models.rows import Rows
from pipeline.training import losses
from pipeline.training.batches import Batch
from tests.small_domains import feed

N_ITEMS, WIDTH = 12, 5
# Repeats inside a window, items that users share, a target that stands twice in its own window.
TRAIN = [[1, 2, 3, 2, 4], [5, 2, 6], [7, 7, 1], [3, 8, 3, 9, 3, 10], [2, 11], [12, 5, 1, 4]]


def vectors_of(loss, seed=0):
    """A batch, and item and query vectors that want gradients."""
    batch = feed(TRAIN, N_ITEMS, loss, n_users=4, seed=seed).batch(0, 0)
    generator = torch.Generator().manual_seed(seed)
    draw = dict(dtype=torch.float64, generator=generator)
    vectors = torch.randn(len(batch.items), WIDTH, **draw).requires_grad_()
    queries = torch.randn(len(batch.targets), WIDTH, **draw).requires_grad_()
    return batch, queries, vectors


def windows_of(batch):
    """Each user's window as positions in the batch's items, the last target included."""
    rows = []
    for row in range(batch.users):
        own = batch.rows.owners == row
        rows.append([*batch.inputs[own].tolist(), batch.targets[own].tolist()[-1]])
    return rows


def share(item):
    flat = [i for row in TRAIN for i in row]
    return flat.count(item) / len(flat)


def slot_by_slot(queries, vectors, batch):
    """The released in-batch loss: a column for every slot of the batch's windows.

    Logits over all columns less log p; a column whose item stands in the user's own window is
    masked, except the one slot that is the target; the mean over all slots with a next item.
    """
    rows = windows_of(batch)
    columns = [(row, slot) for row, window in enumerate(rows) for slot in range(len(window))]
    terms, query = [], 0
    for row, window in enumerate(rows):
        for slot in range(len(window) - 1):
            logits, target = [], None
            for other, place in columns:
                position = rows[other][place]
                is_target = (other, place) == (row, slot + 1)
                if position in window and not is_target:
                    continue
                log_share = math.log(share(int(batch.items[position])))
                logits.append(queries[query] @ vectors[position] - log_share)
                target = logits[-1] if is_target else target
            terms.append(torch.logsumexp(torch.stack(logits), 0) - target)
            query += 1
    assert query == len(queries)
    return torch.stack(terms).mean()


def one_negative(queries, vectors, batch):
    positive, negative = [], []
    for n in range(len(queries)):
        plus = torch.sigmoid(queries[n] @ vectors[batch.targets[n]])
        minus = torch.sigmoid(queries[n] @ vectors[batch.negatives[n]])
        positive.append(-torch.log(plus))
        negative.append(-torch.log(1 - minus))
    return sum(positive) / len(positive) + sum(negative) / len(negative)


def over_the_catalogue(queries, vectors, batch):
    assert batch.items.tolist() == list(range(1, N_ITEMS + 1))
    terms = []
    for n in range(len(queries)):
        scores = torch.stack([queries[n] @ vector for vector in vectors])
        terms.append(-torch.log(torch.exp(scores[batch.targets[n]]) / torch.exp(scores).sum()))
    return sum(terms) / len(terms)


ORACLES = {
    "in_batch": slot_by_slot,
    "bce": one_negative,
    "full_softmax": over_the_catalogue,
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", losses.LOSSES)
def test_loss_and_gradients_equal_a_plain_loop_over_the_slots(name, seed):
    batch, queries, vectors = vectors_of(name, seed)
    found = losses.LOSSES[name](queries, vectors, batch)
    expected = ORACLES[name](queries, vectors, batch)
    assert found.item() == pytest.approx(expected.item(), rel=0, abs=1e-10)
    gradients = torch.autograd.grad(found, (queries, vectors))
    for one, other in zip(
        gradients, torch.autograd.grad(expected, (queries, vectors)), strict=True
    ):
        assert other.abs().max() > 1e-3
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def worked_batch():
    """User 0 saw a b, user 1 saw c c; p(a), p(b), p(c) = 1/4, 1/4, 1/2; scores are logarithms."""
    scores = torch.log(torch.tensor([[2.0, 3.0, 5.0], [7.0, 1.0, 4.0]], dtype=torch.float64))
    batch = Batch(
        items=torch.tensor([1, 2, 3]),
        draws=torch.zeros(2, 3),
        inputs=torch.tensor([0, 2]),
        targets=torch.tensor([1, 2]),
        negatives=torch.tensor([2, 0]),
        counts=torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64),
        rows=Rows.of(np.array([1, 1])),
        log_share=torch.log(torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64)),
        users=2,
        share=1.0,
    )
    return scores, torch.eye(3, dtype=torch.float64), batch


def test_worked_by_hand():
    queries, vectors, batch = worked_batch()
    # e^(s - log p): user 0: b 3 / (1/4) = 12, c twice 5 / (1/2) = 10; a is its own.
    # user 1: c 4 / (1/2) = 8 once, as target; a 7 / (1/4) = 28, b 1 / (1/4) = 4.
    in_batch = -(np.log(12 / (12 + 2 * 10)) + np.log(8 / (8 + 28 + 4))) / 2
    # sigma(log x) = x / (1 + x): targets 3/4 and 4/5, negatives 5/6 and 7/8.
    bce = -(np.log(3 / 4) + np.log(4 / 5)) / 2 - (np.log(1 - 5 / 6) + np.log(1 - 7 / 8)) / 2
    full = -(np.log(3 / (2 + 3 + 5)) + np.log(4 / (7 + 1 + 4))) / 2
    for name, expected in [("in_batch", in_batch), ("bce", bce), ("full_softmax", full)]:
        assert losses.LOSSES[name](queries, vectors, batch).item() == pytest.approx(expected)


def test_the_counts_and_the_shares_both_matter():
    batch, queries, vectors = vectors_of("in_batch")
    right = losses.in_batch(queries, vectors, batch)
    once = batch._replace(counts=torch.ones_like(batch.counts))
    alike = batch._replace(log_share=torch.zeros_like(batch.log_share))
    assert abs(losses.in_batch(queries, vectors, once) - right) > 1e-3
    assert abs(losses.in_batch(queries, vectors, alike) - right) > 1e-3


def test_bce_stays_finite_at_scores_where_a_sigmoid_is_0_or_1():
    queries, vectors, batch = worked_batch()
    loss = losses.bce(1000 * queries, vectors, batch)
    assert torch.isfinite(loss)


@pytest.mark.parametrize("chunk", [1, 3, 4])
def test_full_softmax_is_the_same_in_chunks(chunk, monkeypatch):
    batch, queries, vectors = vectors_of("full_softmax")
    assert len(queries) > 4 and len(queries) % 4
    whole = losses.full_softmax(queries, vectors, batch)
    monkeypatch.setitem(losses.CHUNK, "cpu", chunk)
    chunked = losses.full_softmax(1.0 * queries, 1.0 * vectors, batch)
    assert chunked.item() == pytest.approx(whole.item(), rel=0, abs=1e-12)
    expected = torch.autograd.grad(2 * whole, (queries, vectors))
    for one, other in zip(
        torch.autograd.grad(2 * chunked, (queries, vectors)), expected, strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
