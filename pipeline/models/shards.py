"""A step's items over several processes: each makes the vectors of its part, all get all."""

from typing import Any

import torch
from torch import Tensor, distributed, nn

from pipeline.content import processes


class _Gather(torch.autograd.Function):
    """Put the rows of all processes one after another; a row's gradient is summed over them."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:  # noqa: ANN401  # autograd's
        parts = [torch.empty_like(own) for _ in range(processes.size())]
        distributed.all_gather(parts, own.contiguous())
        ctx.first, ctx.rows = processes.rank() * len(own), len(own)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401
        summed = gradients[0].contiguous()
        distributed.all_reduce(summed)
        return summed[ctx.first : ctx.first + ctx.rows]


def vectors(tower: nn.Module, items: Tensor, draws: Tensor | None) -> Tensor:
    """Make the vectors of items, each by one process: [n, D] on all of them, with gradients.

    Args:
        tower: the same on every process.
        items: [n] int64 on the CPU, the same on every process.
        draws: [2, n], as a tower takes them.

    Returns:
        [n, D] float32 at least: what many slots read has a gradient that is a sum over them.
    """
    if processes.size() == 1:
        return _precise(tower(items, draws))
    n = -(-len(items) // processes.size())  # rows of each; the last ones may have fewer
    own = slice(processes.rank() * n, (processes.rank() + 1) * n)
    made = _precise(tower(items[own], None if draws is None else draws[:, own]))
    made = torch.cat([made, made.new_zeros(n - len(made), made.shape[1])])
    gathered: Tensor = _Gather.apply(made)
    return gathered[: len(items)]


def _precise(made: Tensor) -> Tensor:
    return made.to(torch.promote_types(made.dtype, torch.float32))
