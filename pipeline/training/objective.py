"""What a step minimises and what an epoch is judged by, over one process or several."""

import torch
from torch import Tensor, nn

from pipeline.content import device, processes
from pipeline.content.blocks import Encoder
from pipeline.data import split
from pipeline.data.kinds import LossName
from pipeline.models import shards
from pipeline.models.items import EndToEndTower
from pipeline.models.recommender import Recommender
from pipeline.retrieval import metrics, search
from pipeline.training import batches, losses

VERSIONS = 64  # that torch.compile may make of one piece of code: all parts share Module's own


def loss(model: Recommender, name: LossName, batch: batches.Batch) -> Tensor:
    """Give the loss of this process's users as a share of the mean over those of all processes.

    Each item of the step is encoded by one process, and its vector is everybody's: as a target,
    as a negative and in histories. So several processes compute what one would, with as many
    negatives.

    Args:
        model: the same on every process.
        name: of the loss.
        batch: this process's part.

    Returns:
        A scalar on the model's device.
    """
    with device.autocast(model.device):
        vectors = shards.vectors(model.tower, batch.items, batch.draws)  # [M, D]
        if not batch.share:
            return vectors.sum() * 0  # fewer users than processes
        queries = model.slots(vectors, batch.inputs, batch.rows, batch.asked)
        queries = queries.to(vectors.dtype)  # [Q, D]
    return losses.LOSSES[name](queries, vectors, batch) * batch.share


def sum_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Sum the gradients that an optimizer steps by over all processes, in one exchange.

    A parameter that no process used keeps none, so that the optimizer passes over it as it does
    where there is one process. Not DistributedDataParallel: its buckets are exchanged whenever they
    are full, and would meet `shards`' exchanges in another order on a process without some items.

    Args:
        optimizer: of the same parameters, in the same order, on every process.
    """
    if processes.size() == 1:
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    is_used = torch.tensor([p.grad is not None for p in parameters])
    is_used = processes.summed(is_used.float()) > 0  # between CPUs: no GPU is waited for
    used = [p for p, is_one in zip(parameters, is_used.tolist(), strict=True) if is_one]
    own = [torch.zeros_like(p) if p.grad is None else p.grad for p in used]
    summed = processes.summed(torch.cat([gradient.flatten() for gradient in own]))
    parts = torch.split(summed, [p.numel() for p in used])
    for parameter, gradient in zip(used, parts, strict=True):
        # In the order its weight lies in, channels last perhaps, by which a fused optimizer reads.
        parameter.grad = torch.empty_like(parameter).copy_(gradient.view_as(parameter))


def compile_parts(model: Recommender, backend: str = "inductor") -> None:
    """Let torch.compile have what a step runs most, for any number of items and lengths.

    Args:
        model: its user encoder, and the blocks of encoders that train, are compiled in place when
            they run first; names and weights stay. A topmost block of which one token is computed
            stays as it is.
        backend: of torch.compile.
    """
    torch._dynamo.config.recompile_limit = VERSIONS
    parts: list[nn.Module] = [model.users]
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

    Returns:
        HR@10 and NDCG@10, means over all validation users.
    """
    K = metrics.CUTOFF
    items = model.item_vectors(parts.candidates, batch)  # histories hold no others
    own = split.part(parts.valid, processes.rank(), processes.size())
    queries = model.queries(own.histories, items)
    device.give_back(model.device)  # the search has none of torch's store
    ranks = search.rank(queries, items, own, parts.candidates, K)
    sums = torch.tensor([metrics.hit(ranks, K).sum(), metrics.ndcg(ranks, K).sum()])
    hr, ndcg = (processes.summed(sums.double()) / len(parts.valid.items)).tolist()
    return hr, ndcg
