"""Losses: pure functions of query vectors, item vectors and a batch -> a scalar.

`queries` [P, D] holds a vector after each input item, `vectors` [M, D] one an item of the batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.training.batches import Batch

try:
    from torch.nn import LinearCrossEntropyOptions

    CHUNKS = True
except ImportError:  # torch before 2.13
    CHUNKS = False

# Queries whose logits are held at once. On a CPU, 2,050 x 4,986 x 64: 0.084 s, all at once 0.172 s.
CHUNK = {"cpu": 256, "cuda": 4096}


def in_batch(queries: Tensor, vectors: Tensor, batch: Batch) -> Tensor:
    """In-batch debiased cross-entropy, computed once per distinct item.

    For the next item t of a user, with s the inner products, p_j an item's share of the domain's
    training interactions and c_j the times it stands in the batch's windows,
    `-log(e^(s_t - log p_t) / (e^(s_t - log p_t) + sum_j c_j e^(s_j - log p_j)))`, where j runs over
    the batch's items that are not in the user's own window. Equal to the loss over all slots of
    the batch (Ni et al., IDvs.MoRec's "in-batch debiased" training), which repeats an item once a
    slot. p is used in training only.
    """
    log_counts, log_share = (t.to(queries.dtype) for t in (batch.counts.log(), batch.log_share))
    logits = torch.addmm(log_counts - log_share, queries, vectors.T)  # [P, M]
    target = batch.targets[:, None]
    positive = logits.gather(1, target) - log_counts[target]
    logits = logits.masked_fill(batch.own()[batch.rows.owners], -torch.inf)
    return F.cross_entropy(logits.scatter(1, target, positive), batch.targets)


def bce(queries: Tensor, vectors: Tensor, batch: Batch) -> Tensor:
    """Binary cross-entropy with one uniform negative a slot (NineRec's, after Kang and McAuley).

    `mean(-log sigma(q . e+)) + mean(-log(1 - sigma(q . e-)))` over the slots.
    """
    # Not vectors[positions]: on several threads its gradient depends on who adds first.
    positive = (queries * F.embedding(batch.targets, vectors)).sum(1)
    negative = (queries * F.embedding(batch.negatives, vectors)).sum(1)
    return F.softplus(-positive).mean() + F.softplus(negative).mean()


def full_softmax(queries: Tensor, vectors: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy over the whole catalogue, which is what `vectors` holds then.

    In chunks, so that the logits [P, N] are never held at once.
    """
    if not CHUNKS:
        return F.cross_entropy(queries @ vectors.T, batch.targets)
    options = LinearCrossEntropyOptions(batch_chunk_size=CHUNK[queries.device.type])
    loss: Tensor = F.linear_cross_entropy(queries, vectors, batch.targets, options=options)
    return loss


LOSSES: dict[str, Callable[[Tensor, Tensor, Batch], Tensor]] = {
    "in_batch": in_batch,
    "bce": bce,
    "full_softmax": full_softmax,
}
