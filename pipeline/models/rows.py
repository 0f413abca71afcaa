"""Histories without padding, and what every user encoder makes of them.

One signature: `encoder(vectors, rows)`, where P counts the items of all histories, one history
after another, and `rows` says whose they are: what is no item is never computed; and `last`, the
query vectors of whole histories alone.
"""

from typing import NamedTuple, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from pipeline.content import device
from pipeline.params import Section


class Rows(NamedTuple):
    """Whose item each of P is: histories one after another, and their places in padded rows."""

    lengths: Tensor  # [B] int64, 1..T
    owners: Tensor  # [P] int64, the history of each item
    steps: Tensor  # [P] int64, the item's place in its history
    grid: Tensor  # [B, T] int64, which of P stands there; past a history's end, its last item
    sizes: Tensor  # [B] int64, the lengths once more; stays on the CPU
    alive: Tensor  # [T] int64, how many histories have that many items; stays there too

    @classmethod
    def of(cls, lengths: np.ndarray) -> Self:
        """Lay out histories of the given lengths [B], none of them 0."""
        ends = np.cumsum(lengths)
        owners = np.repeat(np.arange(len(lengths)), lengths)
        steps = np.arange(len(owners)) - (ends - lengths)[owners]
        column = np.arange(lengths.max(initial=1))
        grid = np.minimum((ends - lengths)[:, None] + column, ends[:, None] - 1)
        alive = len(lengths) - np.searchsorted(np.sort(lengths), column, side="right")
        return cls(*map(torch.from_numpy, (lengths, owners, steps, grid, lengths, alive)))

    def to(self, where: torch.device) -> "Rows":
        """Move it to a device."""
        return Rows(
            lengths=device.move(self.lengths, where),
            owners=device.move(self.owners, where),
            steps=device.move(self.steps, where),
            grid=device.move(self.grid, where),
            sizes=self.sizes,
            alive=self.alive,
        )

    def longer(self) -> "Rows":
        """Lay out the same histories with one item more at the end of each, on their device."""
        return Rows.of(self.sizes.numpy() + 1).to(self.lengths.device)

    def pad(self, packed: Tensor) -> Tensor:
        """Lay [P, width] out as [B, T, width]; right of a history its last item stands again."""
        if len(packed) == self.grid.numel():  # nothing to pad
            return packed.view(*self.grid.shape, -1)
        # By F.embedding, whose gradient is fast and the same on any number of threads.
        return F.embedding(self.grid, packed)

    def pack(self, padded: Tensor) -> Tensor:
        """Take the items of [B, T, width] back out: [P, width]."""
        if len(self.owners) == self.grid.numel():
            return padded.flatten(0, 1)
        places = self.owners * self.grid.shape[1] + self.steps
        return F.embedding(places, padded.flatten(0, 1))

    def last(self) -> Tensor:
        """Give where in P each history ends: [B] int64."""
        return self.grid[:, -1]

    def by_step(self) -> Tensor:
        """Order the items by their step, those of longer histories first: [P] int64 places."""
        order = torch.argsort(self.lengths, descending=True, stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order), device=order.device)
        return torch.argsort(self.steps * len(order) + rank[self.owners])

    def in_steps(self, packed: Tensor, order: Tensor) -> PackedSequence:
        """Lay [P, width] out for torch's recurrent layers, in the order of `by_step`."""
        return PackedSequence(F.embedding(order, packed), self.alive)

    def earlier(self, by: int) -> Tensor:
        """Give the place in P of the item so many steps before each, P where there is none."""
        places = torch.arange(len(self.steps), device=self.steps.device)
        return torch.where(self.steps >= by, places - by, len(places))


class Masking(Section):
    """How histories are hidden from a user encoder that learns to restore them."""

    share: float = Field(gt=0, lt=1)  # of items that become [MASK]; a history hides one at least
    last: float = Field(ge=0, le=1)  # share of histories that hide their last item alone


class UserEncoder(nn.Module):
    """Makes query vectors, by whose inner product items are ranked, of histories of item vectors.

    Where `masking` is none, it predicts the next item: at an item it sees that and earlier ones.
    With `masking`, it restores hidden ones: the caller puts `mask` in their place, and `last` puts
    one after each history. No history is changed by those beside it. A subclass has `forward`, and
    `last` where less has to be computed, or another thing.
    """

    masking: Masking | None = None  # learns to restore hidden items; none: to predict the next one

    def __init__(self) -> None:
        super().__init__()
        self.mask: nn.Parameter | None = None  # [D], what stands for a hidden item

    def forward(self, vectors: Tensor, rows: Rows) -> Tensor:
        """Encode histories.

        Args:
            vectors: [P, D], the items' vectors.
            rows: whose they are; no history is longer than L, with hidden items than L + 1.

        Returns:
            [P, D], at an item the query vector of the history up to it; where there is `masking`,
            at a hidden item that of all the others.
        """
        raise NotImplementedError

    def last(self, vectors: Tensor, rows: Rows) -> Tensor:
        """Encode whole histories, in evaluation: [P, D] -> [B, D], and no more if it can be."""
        encoded: Tensor = self(vectors, rows)
        return encoded[rows.last()]


def xavier(module: nn.Module) -> None:
    """Start linear layers and tables with Xavier's normal weights and biases of 0, as NineRec does.

    One layer that makes queries, keys and values counts as one, [3 D, D]: they start smaller by
    2 ** 0.5 than those of NineRec's three layers.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.xavier_normal_(part.weight)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
