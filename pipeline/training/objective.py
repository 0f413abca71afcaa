"""What a step minimises and what an epoch is judged by, over one process or several."""

import warnings

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.content import device, processes
from pipeline.content.blocks import Encoder
from pipeline.data import split
from pipeline.models import shards
from pipeline.models.items import EndToEndTower
from pipeline.models.recommender import Recommender
from pipeline.retrieval import metrics, search
from pipeline.training import batches, losses


class Objective(nn.Module):
    """A model and a loss as one module: a batch -> this process's part of its mean loss."""

    def __init__(self, model: Recommender, loss: batches.LossName) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: batches.Batch) -> Tensor:
        """Give the loss of the batch's users as a share of that of all processes' users.

        Each item of the step is encoded by one process, and its vector is everybody's: as a target,
        as a negative and in histories. So several processes compute what one would, with as many
        negatives.
        """
        model = self.model
        with device.autocast(next(model.users.parameters()).device):
            made = shards.vectors(model.tower, batch.items, batch.draws)
            # What many slots read is summed over them: that needs float32.
            vectors = made.to(torch.promote_types(made.dtype, torch.float32))
            if not batch.share:
                return vectors.sum() * 0  # fewer users than processes
            queries = model.slots(vectors, batch.inputs, batch.rows).to(vectors.dtype)
        return losses.LOSSES[self.loss](queries, vectors, batch) * batch.share


def shared(objective: Objective) -> nn.Module:
    """Let processes average the objective's gradients, where there are several."""
    if processes.size() == 1:
        return objective
    with warnings.catch_warnings():
        # torch 2.14 names broadcast_buffers anew; 2.11 has no other name for it.
        warnings.simplefilter("ignore", FutureWarning)
        # A process may have no item of a modality, and then no gradient of its encoder.
        return DistributedDataParallel(
            objective, broadcast_buffers=False, find_unused_parameters=True
        )


def compile_parts(model: Recommender, backend: str = "inductor") -> None:
    """Let torch.compile have what a step runs most, for any number of items and lengths.

    Args:
        model: its user encoder, and the blocks of encoders that train, are compiled in place when
            they run first; names and weights stay.
        backend: of torch.compile.
    """
    parts = [model.users]
    if isinstance(model.tower, EndToEndTower):
        for encoder in model.tower.encoders.values():
            assert isinstance(encoder, Encoder)
            parts += encoder.blocks()
    for part in parts:
        part.compile(dynamic=True, backend=backend)


def validate(model: Recommender, parts: split.Split, batch: int) -> tuple[float, float]:
    """Measure HR@10 and NDCG@10 on validation, with the search that judges the test.

    Args:
        model: the model; each process has the same one.
        parts: the domain, divided; each process takes its share of the users.
        batch: items a forward pass of an encoder.
    """
    K = metrics.CUTOFF
    items = model.item_vectors(parts.candidates, batch)  # histories hold no others
    own = split.part(parts.valid, processes.rank(), processes.size())
    queries = model.queries(own.histories, items)
    ranks = search.rank(queries, items, own, parts.candidates, K)
    sums = torch.tensor([metrics.hit(ranks, K).sum(), metrics.ndcg(ranks, K).sum()])
    hr, ndcg = (processes.summed(sums.double()) / len(parts.valid.items)).tolist()
    return hr, ndcg
