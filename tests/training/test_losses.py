"""Each loss against a plain loop over every slot, in float64; and one table worked by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.models.rows import Masking, Rows
from pipeline.training import losses, negatives
from pipeline.training.batches import Batch
from pipeline.training.negatives import Negatives
from tests.small_domains import feed

N_ITEMS, WIDTH = 12, 5
# Repeats inside a window, items that users share, a target that stands twice in its own window.
TRAIN = [[1, 2, 3, 2, 4], [5, 2, 6], [7, 7, 1], [3, 8, 3, 9, 3, 10], [2, 11], [12, 5, 1, 4]]


MASKING = Masking(share=0.5, last=0.2)


def vectors_of(loss, seed=0, masking=None, **negatives):
    """A batch, and item and query vectors that want gradients."""
    fed = feed(TRAIN, N_ITEMS, loss, n_users=4, seed=seed, masking=masking, **negatives)
    batch = fed.batch(0, 0)
    generator = torch.Generator().manual_seed(seed)
    draw = dict(dtype=torch.float64, generator=generator)
    vectors = torch.randn(len(batch.items), WIDTH, **draw).requires_grad_()
    queries = torch.randn(len(batch.targets), WIDTH, **draw).requires_grad_()
    return batch, queries, vectors


def windows_of(batch):
    """Each user's window as places in the batch's items, and [user, slot, target] of each query."""
    asked = range(len(batch.inputs)) if batch.asked is None else batch.asked.tolist()
    targets = dict(zip(asked, batch.targets.tolist(), strict=True))
    rows, queries, place = [], [], 0
    for row, length in enumerate(batch.rows.lengths.tolist()):
        own = batch.inputs[place : place + length].tolist()
        if batch.asked is None:
            queries += [(row, slot + 1) for slot in range(length)]
            own.append(targets[place + length - 1])
        else:
            hidden = [slot for slot in range(length) if place + slot in targets]
            assert {own[slot] for slot in hidden} == {len(batch.items)}  # [MASK]
            queries += [(row, slot) for slot in hidden]
            own = [targets.get(place + slot, item) for slot, item in enumerate(own)]
        rows.append(own)
        place += length
    assert len(queries) == len(targets)
    return rows, queries


def share(item):
    flat = [i for row in TRAIN for i in row]
    return flat.count(item) / len(flat)


def slot_by_slot(queries, vectors, batch):
    """The released in-batch loss: a column for every slot of the batch's windows.

    Logits over all columns less log p; a column whose item stands in the user's own window is
    masked, except the one slot that is the target; the mean over all slots that are asked for.
    """
    rows, asked = windows_of(batch)
    columns = [(row, slot) for row, window in enumerate(rows) for slot in range(len(window))]
    terms = []
    for query, (row, slot) in enumerate(asked):
        logits, target = [], None
        for other, place in columns:
            position = rows[other][place]
            is_target = (other, place) == (row, slot)
            if position in rows[row] and not is_target:
                continue
            log_share = math.log(share(int(batch.items[position])))
            logits.append(queries[query] @ vectors[position] - log_share)
            target = logits[-1] if is_target else target
        terms.append(torch.logsumexp(torch.stack(logits), 0) - target)
    return torch.stack(terms).mean()


def sides(queries, vectors, batch):
    """By slot, the probability of its target and those of its negatives."""
    for n in range(len(queries)):
        drawn = [torch.sigmoid(queries[n] @ vectors[place]) for place in batch.negatives[n]]
        yield torch.sigmoid(queries[n] @ vectors[batch.targets[n]]), drawn


def with_negatives(queries, vectors, batch):
    positive, negative = [], []
    for plus, drawn in sides(queries, vectors, batch):
        positive.append(-torch.log(plus))
        negative += [-torch.log(1 - minus) for minus in drawn]
    return sum(positive) / len(positive) + sum(negative) / len(negative)


def generalised(queries, vectors, batch):
    """gSASRec's equations, k = 3 of the 11 other items, t = 3/4."""
    a, t = 3 / 11, 0.75
    beta = a * (t * (1 - 1 / a) + 1 / a)
    terms = [
        -(torch.log(plus**beta) + sum(torch.log(1 - minus) for minus in drawn)) / 4
        for plus, drawn in sides(queries, vectors, batch)
    ]
    return sum(terms) / len(terms)


def ranked(queries, vectors, batch):
    terms = []
    for n in range(len(queries)):
        plus = queries[n] @ vectors[batch.targets[n]]
        terms += [
            -torch.log(torch.sigmoid(plus - queries[n] @ vectors[place]))
            for place in batch.negatives[n]
        ]
    return sum(terms) / len(terms)


def over_a_sample(queries, vectors, batch):
    """Evenly drawn from 12 items: each is expected k / 12 times among k."""
    expected = len(batch.negatives) / N_ITEMS
    terms = []
    for n in range(len(queries)):
        plus = torch.exp(queries[n] @ vectors[batch.targets[n]])
        others = [
            torch.exp(queries[n] @ vectors[place]) / expected
            for place in batch.negatives.tolist()
            if place != batch.targets[n]
        ]
        terms.append(-torch.log(plus / (plus + sum(others))))
    return sum(terms) / len(terms)


def over_the_catalogue(queries, vectors, batch):
    assert batch.items.tolist() == list(range(1, N_ITEMS + 1))
    terms = []
    for n in range(len(queries)):
        scores = torch.stack([queries[n] @ vector for vector in vectors])
        terms.append(-torch.log(torch.exp(scores[batch.targets[n]]) / torch.exp(scores).sum()))
    return sum(terms) / len(terms)


ORACLES = {
    "in_batch": slot_by_slot,
    "bce": with_negatives,
    "gbce": generalised,
    "bpr": ranked,
    "sampled_softmax": over_a_sample,
    "full_softmax": over_the_catalogue,
}


@pytest.mark.parametrize("masking", [None, MASKING], ids=["next", "hidden"])
@pytest.mark.parametrize("few", [0.0, 1.0], ids=["all scores", "few vectors"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", losses.LOSSES)
def test_loss_and_gradients_equal_a_plain_loop_over_the_slots(
    name, seed, few, masking, monkeypatch
):
    monkeypatch.setattr(losses, "FEW", few)
    batch, queries, vectors = vectors_of(name, seed, masking, number=3)
    found = losses.LOSSES[name](queries, vectors, batch)
    expected = ORACLES[name](queries, vectors, batch)
    assert found.item() == pytest.approx(expected.item(), rel=0, abs=1e-10)
    gradients = torch.autograd.grad(found, (queries, vectors))
    for one, other in zip(
        gradients, torch.autograd.grad(expected, (queries, vectors)), strict=True
    ):
        assert other.abs().max() > 1e-3
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_bce_with_one_negative_a_slot_is_gbce_without_calibration_twice():
    batch, queries, vectors = vectors_of("gbce", calibration=0.0)
    assert batch.power == 1.0
    twice = 2 * losses.gbce(queries, vectors, batch)
    assert losses.bce(queries, vectors, batch).item() == pytest.approx(twice.item())


@pytest.mark.parametrize("popularity", [0.0, 0.75])
def test_a_sampled_softmax_estimates_the_sum_over_all_other_items_without_bias(popularity):
    # Of one query: the mean over draws of sum e^(s_j - log(k q_j)), less the target's, is the sum
    # of e^(s_j) over what can be drawn, but the target.
    rng = np.random.default_rng(0)
    counts = np.array([0, 5, 1, 0, 9, 2, 3])
    settings = Negatives(number=4, popularity=popularity, calibration=0.0)
    sampler = negatives.Sampler(np.arange(1, 7), counts, settings)
    score, target = rng.standard_normal(7), 4
    sums = []
    for _ in range(20_000):
        drawn = sampler.draw(rng, 4)
        terms = np.exp(score[drawn] - sampler.log_expected(drawn))
        sums.append(terms[drawn != target].sum())
    can = [1, 2, 5, 6] if popularity else [1, 2, 3, 5, 6]
    error = np.std(sums) / len(sums) ** 0.5
    assert abs(np.mean(sums) - np.exp(score[can]).sum()) < 5 * error


def test_gbces_power_worked_by_hand():
    def power(number, calibration, candidates):
        settings = Negatives(number=number, popularity=0.0, calibration=calibration)
        return negatives.gbce_power(settings, candidates)

    assert power(1, 0.0, 101) == 1.0
    assert power(25, 1.0, 101) == pytest.approx(0.25)  # a
    assert power(25, 0.5, 101) == pytest.approx(0.25 * (0.5 * (1 - 4) + 4))  # 0.625
    assert power(256, 0.75, 3417) == pytest.approx(1 - 0.75 * (1 - 256 / 3416))
    assert power(500, 1.0, 101) == 1.0  # more draws than items: nothing to undo


def worked_batch():
    """User 0 saw a b, user 1 saw c c; p(a), p(b), p(c) = 1/4, 1/4, 1/2; scores are logarithms."""
    scores = torch.log(torch.tensor([[2.0, 3.0, 5.0], [7.0, 1.0, 4.0]], dtype=torch.float64))
    batch = Batch(
        items=torch.tensor([1, 2, 3]),
        draws=torch.zeros(2, 3),
        inputs=torch.tensor([0, 2]),
        targets=torch.tensor([1, 2]),
        asked=None,
        negatives=torch.tensor([[2], [0]]),
        log_expected=torch.empty(0),
        power=0.5,
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
    # Half as much of the positives, and one negative: over 2.
    gbce = -(np.log(3 / 4) + np.log(4 / 5)) / 8 - (np.log(1 - 5 / 6) + np.log(1 - 7 / 8)) / 4
    # sigma(log x - log y) = x / (x + y).
    bpr = -(np.log(3 / (3 + 5)) + np.log(4 / (4 + 7))) / 2
    full = -(np.log(3 / (2 + 3 + 5)) + np.log(4 / (7 + 1 + 4))) / 2
    expected = {"in_batch": in_batch, "bce": bce, "gbce": gbce, "bpr": bpr, "full_softmax": full}
    for name, value in expected.items():
        assert losses.LOSSES[name](queries, vectors, batch).item() == pytest.approx(value)
    # c and a drawn for both users, each expected half a time: user 0 misses neither, 3 against
    # 2 * 5 and 2 * 2; for user 1 c is its target, 4 against 2 * 7.
    drawn = batch._replace(
        negatives=torch.tensor([2, 0]), log_expected=torch.tensor([0.5, 0.5]).log()
    )
    sampled = -(np.log(3 / (3 + 10 + 4)) + np.log(4 / (4 + 14))) / 2
    assert losses.sampled_softmax(queries, vectors, drawn).item() == pytest.approx(sampled)


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


@pytest.mark.parametrize("by", ["queries", "logits"])
@pytest.mark.parametrize("chunk", [1, 3, 4])
def test_full_softmax_is_the_same_in_chunks(chunk, by, monkeypatch):
    batch, queries, vectors = vectors_of("full_softmax")
    assert len(queries) > 4 and len(queries) % 4
    whole = losses.full_softmax(queries, vectors, batch)
    if by == "queries":
        monkeypatch.setitem(losses.CHUNK, "cpu", chunk)
    else:
        monkeypatch.setattr(losses, "HELD", chunk * len(vectors) + 1)
    chunked = losses.full_softmax(1.0 * queries, 1.0 * vectors, batch)
    assert chunked.item() == pytest.approx(whole.item(), rel=0, abs=1e-12)
    expected = torch.autograd.grad(2 * whole, (queries, vectors))
    for one, other in zip(
        torch.autograd.grad(2 * chunked, (queries, vectors)), expected, strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("at_once", [1, 3, 4])
def test_in_batch_is_the_same_in_chunks(at_once, monkeypatch):
    batch, queries, vectors = vectors_of("in_batch", seed=1)
    assert len(queries) > 4 and len(queries) % 4 and len(queries) != len(vectors)
    whole = losses.in_batch(queries, vectors, batch)
    expected = torch.autograd.grad(2 * whole, (queries, vectors))
    monkeypatch.setattr(losses, "LOGITS", at_once * len(vectors) + 1)
    passes, real = [], losses.checkpoint
    monkeypatch.setattr(losses, "checkpoint", lambda *a, **k: passes.append(1) or real(*a, **k))
    with Largest() as watched:
        chunked = losses.in_batch(queries, vectors, batch)
        found = torch.autograd.grad(2 * chunked, (queries, vectors))
    assert chunked.item() == pytest.approx(whole.item(), rel=0, abs=1e-12)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    assert watched.numbers < len(queries) * len(vectors)
    assert len(passes) == -(-len(queries) // at_once)


class Largest(TorchDispatchMode):
    """Watches how many numbers the largest floating-point tensor has that an operation gives."""

    numbers = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple) else (made,):
            if isinstance(one, torch.Tensor) and one.is_floating_point():
                self.numbers = max(self.numbers, one.numel())
        return made


def test_full_softmax_holds_no_more_logits_of_a_large_catalogue(monkeypatch):
    monkeypatch.setattr(losses, "HELD", 6 * 500 + 1)
    assert held_of_full_softmax(n_items=500, n_queries=10) == 6 * 500


def test_full_softmax_never_holds_all_logits():
    held = held_of_full_softmax(n_items=500, n_queries=4 * losses.CHUNK["cpu"] + 7)
    assert held == losses.CHUNK["cpu"] * 500


def held_of_full_softmax(n_items, n_queries):
    queries, vectors = (torch.randn(n, 4, requires_grad=True) for n in (n_queries, n_items))
    batch = SimpleNamespace(targets=torch.arange(n_queries) % n_items)
    with Largest() as watched:
        losses.full_softmax(queries, vectors, batch).backward()
    return watched.numbers
