"""Losses: pure functions of query vectors, item vectors and a batch -> a scalar.

`queries` [Q, D] holds a vector for each item to predict, `vectors` [M, D] one an item of the batch.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from pipeline.training.batches import Batch

# Queries whose logits are held at once. On a CPU, 2,210 x 4,986 x 64: 0.058 s, all at once 0.168 s.
CHUNK = {"cpu": 128, "cuda": 4096}
HELD = 1 << 28  # and so many logits of a whole catalogue at most, 1 GiB
LOGITS = 1 << 26  # of in-batch negatives held at once; more are made again for their gradient
FEW = 1 / 16  # negatives a slot, as a share of the items, up to which their vectors are read
LOG2_E = math.log2(math.e)


def in_batch(queries: Tensor, vectors: Tensor, batch: Batch) -> Tensor:
    """In-batch debiased cross-entropy, computed once per distinct item.

    For the next item t of a user, with s the inner products, p_j an item's share of the domain's
    training interactions and c_j the times it stands in the batch's windows,
    `-log(e^(s_t - log p_t) / (e^(s_t - log p_t) + sum_j c_j e^(s_j - log p_j)))`, where j runs over
    the batch's items that are not in the user's own window. Equal to the loss over all slots of
    the batch (Ni et al., IDvs.MoRec's "in-batch debiased" training), which repeats an item once a
    slot. p is used in training only. Logits of many slots and items are held LOGITS at a time.
    """
    log_counts, log_share = (t.to(queries.dtype) for t in (batch.counts.log(), batch.log_share))
    shift, owners, is_own = log_counts - log_share, batch.owners, batch.own()

    def of(rows: slice) -> Tensor:
        """Give the mean loss of some queries, as their share of all."""
        logits = torch.addmm(shift, queries[rows], vectors.T)  # [Q, M]
        target = batch.targets[rows]
        positive = logits.gather(1, target[:, None]) - log_counts[target, None]
        logits = logits.masked_fill(is_own[owners[rows]], -torch.inf)
        logits = logits.scatter(1, target[:, None], positive)
        return F.cross_entropy(logits, target) * (len(target) / len(queries))

    step = max(1, LOGITS // len(vectors))
    if len(queries) <= step:
        return of(slice(None))
    parts = [slice(start, start + step) for start in range(0, len(queries), step)]
    shares = [
        # Nothing in it is random, so that no generator's state needs to be kept.
        checkpoint(of, rows, use_reentrant=False, preserve_rng_state=False)
        for rows in parts
    ]
    return torch.stack(shares).sum()


def bce(queries: Tensor, vectors: Tensor, batch: Batch) -> Tensor:
    """Binary cross-entropy with k negatives a slot (NineRec's, after Kang and McAuley, has one).

    `mean(-log sigma(q . e+)) + mean(-log(1 - sigma(q . e-)))` over slots and negatives.
    """
    positive, negative = scores(queries, vectors, batch)
    return F.softplus(-positive).mean() + F.softplus(negative).mean()


def gbce(queries: Tensor, vectors: Tensor, batch: Batch) -> Tensor:
    """Generalised binary cross-entropy: bce whose positives' probabilities undo the sampling.

    `-mean(log sigma(q . e+)^beta + sum_k log(1 - sigma(q . e-))) / (k + 1)`, with beta as
    `negatives.gbce_power` gives it.

    Source: Petrov and Macdonald, "gSASRec: Reducing Overconfidence in Sequential Recommendation
    Trained with Negative Sampling", RecSys 2023, equations 9 and 12.
    """
    positive, negative = scores(queries, vectors, batch)
    total = batch.power * F.softplus(-positive) + F.softplus(negative).sum(1)
    return total.mean() / (1 + negative.shape[1])


def bpr(queries: Tensor, vectors: Tensor, batch: Batch) -> Tensor:
    """Bayesian personalised ranking: `mean(-log sigma(q . e+ - q . e-))` over slots and negatives.

    Source: Rendle et al., "BPR", UAI 2009.
    """
    positive, negative = scores(queries, vectors, batch)
    return F.softplus(negative - positive[:, None]).mean()


def scores(queries: Tensor, vectors: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Score each slot's item to predict, [Q], and its own negatives, [Q, k]."""
    # Not vectors[places]: on several threads its gradient depends on who adds first.
    positive = (queries * F.embedding(batch.targets, vectors)).sum(1)
    if batch.negatives.shape[1] <= FEW * len(vectors):
        drawn = F.embedding(batch.negatives, vectors)  # [Q, k, D]
        return positive, (drawn @ queries[:, :, None])[:, :, 0]
    return positive, (queries @ vectors.T).gather(1, batch.negatives)


def sampled_softmax(queries: Tensor, vectors: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy over the item to predict and k negatives of the step, corrected by log Q.

    With q_j the chance of item j at a draw,
    `-log(e^(s_t) / (e^(s_t) + sum_j e^(s_j - log(k q_j))))`, j over the drawn items but the one to
    predict, as often as each was drawn: the sum estimates that over all others that can be drawn
    without bias, and the item to predict, always there, needs no correction.

    Source: Bengio and Senecal, "Adaptive Importance Sampling to Accelerate Training of a Neural
    Probabilistic Language Model", IEEE TNN 2008, section III.
    """
    positive = (queries * F.embedding(batch.targets, vectors)).sum(1, keepdim=True)
    corrected = torch.addmm(
        -batch.log_expected.to(queries.dtype), queries, F.embedding(batch.negatives, vectors).T
    )
    is_target = batch.negatives == batch.targets[:, None]
    logits = torch.cat([positive, corrected.masked_fill(is_target, -torch.inf)], 1)
    return F.cross_entropy(logits, torch.zeros_like(batch.targets))


def full_softmax(queries: Tensor, vectors: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy over the whole catalogue, which is what `vectors` holds then.

    In chunks, so that the logits [Q, N] are never held at once.
    """
    loss: Tensor = _FullSoftmax.apply(queries, vectors, batch.targets)
    return loss


class _FullSoftmax(torch.autograd.Function):
    """Loss and gradients of q queries at once, while their logits are there.

    With z_j = s_j log2(e) and m the largest of them, p_j = 2^(z_j - m) and S = sum_j p_j:
    the loss, -log(e^(s_t) / sum_j e^(s_j)), is (log2(S) + m - z_t) / log2(e), and its gradient by
    s_j, the softmax less 1 at the target t, is (p_j - S [j = t]) / S. That by a query is the sum of
    it times item j's vector, that by item j's vector the sum of it times the queries'.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, vectors: Tensor, targets: Tensor) -> Tensor:  # noqa: ANN401
        Q, N = len(queries), len(vectors)
        chunk = min(CHUNK[queries.device.type], max(1, HELD // N))
        losses = queries.new_empty(Q)
        of_queries, of_vectors = torch.empty_like(queries), torch.zeros_like(vectors)
        memory = queries.new_empty(min(chunk, Q) * N)  # once: fresh pages cost
        for start in range(0, Q, chunk):
            rows = slice(start, start + chunk)
            some, target = queries[rows], targets[rows]  # [q, D], [q]
            column = torch.arange(len(some), device=queries.device)
            # One buffer holds z, then p, then p less S at the targets. Items by queries and powers
            # of 2: a CPU is faster at these than at their likes.
            buffer = memory[: N * len(some)].view(N, -1)  # [N, q]
            torch.mm(vectors, (some * LOG2_E).T, out=buffer)
            own, largest = buffer[target, column], buffer.amax(0)  # [q]
            buffer.sub_(largest).exp2_()
            total = buffer.sum(0)  # [q]
            losses[rows] = (total.log2() + largest - own) / LOG2_E
            buffer[target, column] -= total
            scale = (total * Q).reciprocal()[:, None]  # [q, 1], of the mean over Q
            of_queries[rows] = (buffer.T @ vectors) * scale
            of_vectors.addmm_(buffer, some * scale)
        ctx.save_for_backward(of_queries, of_vectors)
        return losses.mean()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:  # noqa: ANN401
        of_queries, of_vectors = ctx.saved_tensors
        return of_queries * gradients[0], of_vectors * gradients[0], None


LOSSES: dict[str, Callable[[Tensor, Tensor, Batch], Tensor]] = {
    "in_batch": in_batch,
    "bce": bce,
    "gbce": gbce,
    "bpr": bpr,
    "sampled_softmax": sampled_softmax,
    "full_softmax": full_softmax,
}
