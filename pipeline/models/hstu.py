"""HSTU: the next item by pointwise gated attention."""

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.attention import check_heads, from_the_end
from pipeline.models.rows import Rows, UserEncoder, xavier
from pipeline.params import Section


class HstuSettings(Section):
    """HSTU (Zhai et al., 2024), without times: our histories have an order alone."""

    blocks: PositiveInt
    heads: PositiveInt
    dropout: float = Field(ge=0, lt=1)


class HstuBlock(nn.Module):
    """One layer: projection, pointwise attention, gated transformation, residual sum.

    With x normed, `U, V, Q, K = silu(f1(x))`, `A = silu(Q K' + r) / L` over an item and earlier
    ones, where r is learned for each distance, and `y = x + f2(norm(A V) * U)`: equations 1 to 3
    of Zhai et al., "Actions Speak Louder than Words", ICML 2024. There is no softmax, so that how
    much there is to attend to is not forgotten; L, the longest history, is a constant.
    """

    def __init__(self, width: int, length: int, settings: HstuSettings) -> None:
        super().__init__()
        check_heads(width, settings.heads)
        self.heads, self.length = settings.heads, length
        self.project = nn.Linear(width, 4 * width)
        self.out = nn.Linear(width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.distances = nn.Embedding(length, settings.heads)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        """Map [P, D] to [P, D]."""
        first, second = self.norms
        D = x.shape[1]
        made = F.silu(self.project(first(x)))
        gate, rest = made[:, :D], made[:, D:]
        mixed = rows.pack(self.mix(rows.pad(rest)))
        gated: Tensor = x + self.out(self.dropout(second(mixed) * gate))
        return gated

    def mix(self, padded: Tensor) -> Tensor:
        """Attend padded [B, T, 3 D], values, queries and keys: [B, T, D]."""
        B, T, _ = padded.shape
        v, q, k = padded.view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        step = torch.arange(T, device=padded.device)
        distance = step[:, None] - step
        bias = F.embedding(distance.clamp(min=0), self.distances.weight).permute(2, 0, 1)
        # Pads stand on the right: what is no later item is no pad.
        weights = F.silu(q @ k.transpose(2, 3) + bias).masked_fill(distance < 0, 0.0)
        mixed: Tensor = (weights / self.length) @ v
        return mixed.transpose(1, 2).flatten(2)


class Hstu(UserEncoder):
    """Stacked layers over item vectors with learned positions, a norm at the end."""

    def __init__(self, width: int, length: int, settings: HstuSettings) -> None:
        super().__init__()
        self.length = length
        self.positions = nn.Embedding(length, width)
        self.dropout = nn.Dropout(settings.dropout)
        self.blocks = nn.ModuleList(
            HstuBlock(width, length, settings) for _ in range(settings.blocks)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        xavier(self)
        for block in self.blocks:
            assert isinstance(block, HstuBlock)
            nn.init.zeros_(block.distances.weight)  # no distance is preferred at first

    def forward(self, vectors: Tensor, rows: Rows) -> Tensor:
        """Encode histories, see `UserEncoder`."""
        x: Tensor = self.dropout(vectors + self.positions(from_the_end(rows, self.length)))
        for block in self.blocks:
            x = block(x, rows)
        encoded: Tensor = self.norm(x)
        return encoded
