"""The floating point operations of a training step, counted on a real one."""

import math
import sys
from collections.abc import Mapping

import torch
from torch.utils import flop_counter

from pipeline.content import processes, store
from pipeline.data import files
from pipeline.data.split import Split
from pipeline.models import items, recommender
from pipeline.training import batches, objective, schedule

Shape = tuple[int, ...]


def _attention(q: Shape, k: Shape, v: Shape, *_: object, **__: object) -> int:
    return int(flop_counter.sdpa_flop_count(q, k, v))  # type: ignore[no-untyped-call]


def _attention_backward(out: Shape, q: Shape, k: Shape, v: Shape, *_: object, **__: object) -> int:
    return int(flop_counter.sdpa_backward_flop_count(out, q, k, v))  # type: ignore[no-untyped-call]


def _product(_: Shape, left: Shape, right: Shape, **__: object) -> int:
    return 2 * left[0] * left[1] * right[1]


def _convolution_backward(
    of_output: Shape,
    of_input: Shape,
    weight: Shape,
    _biases: object,
    _stride: object,
    _padding: object,
    _dilation: object,
    is_transposed: bool,
    _output_padding: object,
    _groups: object,
    wanted: tuple[bool, bool, bool],
    **_: object,
) -> int:
    places = math.prod((of_input if is_transposed else of_output)[2:])
    # Each gradient takes as much as the convolution: a weight holds its own group's inputs alone.
    return 2 * of_output[0] * places * math.prod(weight) * sum(wanted[:2])


# What torch's counter does not know: attention as CPUs compute it, sums in place; and the groups of
# a convolution in its gradients: of MobileNetV2's top block it counts 4 times too much.
UNKNOWN = {
    torch.ops.aten.convolution_backward: _convolution_backward,
    torch.ops.aten.addmm_: _product,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def of_step(model: recommender.Recommender, split: Split, plan: schedule.Plan) -> int | None:
    """Count the operations of a domain's first step, forward and backward.

    Two for each multiplication with its addition, in matrix products, convolutions and attention;
    nothing else counts. Weights, gradients and the state of torch's generators stay as they are.

    Args:
        model: as the phase trains it.
        split: the domain.
        plan: of the phase.

    Returns:
        The number; none where memory is too small, and none of several processes: one that fails
        here would leave the others waiting, and the trained run is worth more than a count.
    """
    if processes.size() > 1:
        return None
    where = model.device
    feed = batches.of_plan(split, plan, model.users.masking, seed=0)
    batch = next(iter(feed.epoch(0, 0, where)))
    modes = {module: module.training for module in model.modules()}
    learning = [p for p in model.parameters() if p.requires_grad]
    gradients = [p.grad for p in learning]
    counter = flop_counter.FlopCounterMode(display=False, custom_mapping=UNKNOWN)
    total: int | None = None
    try:
        model.to(where)
        for parameter in learning:
            parameter.grad = None
        model.train()
        # Without cuDNN, whose recurrent nets the counter does not see into.
        own_rng = torch.random.fork_rng([where] if where.type == "cuda" else [])
        with own_rng, torch.backends.cudnn.flags(enabled=False), counter:
            objective.loss(model, plan.loss, batch).backward()  # type: ignore[no-untyped-call]
        total = int(counter.get_total_flops())
    except (RuntimeError, MemoryError) as error:
        if not files.is_short_of_memory(error):
            raise
        sys.stderr.write("flops: memory is too small to count a step's operations once more\n")
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter, gradient in zip(learning, gradients, strict=True):
            parameter.grad = gradient
    return total


def probe_of(
    model: recommender.Recommender, embedded: Mapping[str, store.Embedded]
) -> recommender.Recommender:
    """Give the model of the phase before encoders joined: the same head over their embeddings.

    Embeddings stay where they are until `of_step` counts.
    """
    assert isinstance(model.tower, items.EndToEndTower)
    tower = items.FrozenTower(embedded, model.tower.head, model.tower.modality_dropout)
    return recommender.Recommender(tower, model.users)
