"""A transformer's block over histories without padding, causal or not: SASRec's and BERT4Rec's."""

from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data import files
from pipeline.models.rows import Rows, UserEncoder, xavier
from pipeline.params import Section


class BlockSettings(Section):
    """A stack of blocks in NineRec's post-norm or in the pre-norm form."""

    blocks: PositiveInt
    heads: PositiveInt
    norm: Literal["pre", "post"]  # post: LayerNorm on the input and after each sum; pre: before
    activation: Literal["relu", "gelu"]
    expansion: PositiveInt  # width of the feed-forward layer over D
    dropout: float = Field(ge=0, lt=1)


class Block(nn.Module):
    """Self-attention and a feed-forward layer, each with a residual sum."""

    def __init__(self, width: int, settings: BlockSettings, causal: bool) -> None:
        super().__init__()
        check_heads(width, settings.heads)
        self.settings, self.causal = settings, causal
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.expand = nn.Linear(width, width * settings.expansion)
        self.contract = nn.Linear(width * settings.expansion, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.dropout = nn.Dropout(settings.dropout)
        self.activation = F.relu if settings.activation == "relu" else F.gelu

    def attend(self, x: Tensor, rows: Rows) -> Tensor:
        """Attend each item to the history's items, or to itself and earlier ones; never to pads."""
        H = self.settings.heads
        padded = rows.pad(self.qkv(x))  # [B, T, 3 D]
        B, T, _ = padded.shape
        q, k, v = padded.view(B, T, 3, H, -1).permute(2, 0, 3, 1, 4)
        drop = self.settings.dropout if self.training else 0.0
        # Pads stand on the right, where a causal mask hides them.
        seen = None if self.causal else is_item(rows)
        mixed = F.scaled_dot_product_attention(
            q, k, v, attn_mask=seen, dropout_p=drop, is_causal=self.causal
        )
        attended: Tensor = self.dropout(self.out(rows.pack(mixed.transpose(1, 2).flatten(2))))
        return attended

    def attend_last(self, x: Tensor, rows: Rows) -> Tensor:
        """Attend each history's last item alone, in evaluation: [P, D] -> [B, D]."""
        D, H = x.shape[1], self.settings.heads
        query, rest = self.qkv.weight[:D], self.qkv.weight[D:]
        padded = rows.pad(F.linear(x, rest))  # [B, T, 2 D]
        B, T, _ = padded.shape
        q = F.linear(x[rows.last()], query).view(B, H, 1, -1)
        k, v = padded.view(B, T, 2, H, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=is_item(rows))
        attended: Tensor = self.out(mixed.flatten(1))
        return attended

    def feed(self, x: Tensor) -> Tensor:
        """Apply the feed-forward layer."""
        fed: Tensor = self.dropout(self.contract(self.activation(self.expand(x))))
        return fed

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        """Map [P, D] to [P, D]."""
        return self.add(x, self.attend(self.before(x), rows))

    def last(self, x: Tensor, rows: Rows) -> Tensor:
        """Map [P, D] to what stands at each history's last item, in evaluation: [B, D]."""
        return self.add(x[rows.last()], self.attend_last(self.before(x), rows))

    def before(self, x: Tensor) -> Tensor:
        """Give what is attended to."""
        return self.norms[0](x) if self.settings.norm == "pre" else x

    def add(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add to each item what it attended, and then the feed-forward layer's."""
        first, second = self.norms
        if self.settings.norm == "pre":
            x = x + attended
            return x + self.feed(second(x))
        x = first(x + attended)
        fed: Tensor = second(x + self.feed(x))
        return fed


class Stack(UserEncoder):
    """Blocks over item vectors with learned positions (NineRec c.2).

    The position index counts from the end, t + L - length, so that the last item is always at
    L - 1, as in NineRec, whose rows are padded on the left.
    """

    def __init__(self, width: int, length: int, settings: BlockSettings, causal: bool) -> None:
        super().__init__()
        self.length = length  # L, the longest history
        self.positions = nn.Embedding(length, width)
        self.norm = nn.LayerNorm(width, eps=1e-6)  # post: of the input; pre: of the output
        self.is_pre = settings.norm == "pre"
        self.dropout = nn.Dropout(settings.dropout)
        self.blocks = nn.ModuleList(Block(width, settings, causal) for _ in range(settings.blocks))
        xavier(self)

    def forward(self, vectors: Tensor, rows: Rows) -> Tensor:
        """Encode histories, see `UserEncoder`."""
        x = self.placed(vectors, rows)
        for block in self.blocks:
            x = block(x, rows)
        return self.norm(x) if self.is_pre else x

    def last(self, vectors: Tensor, rows: Rows) -> Tensor:
        """Encode whole histories; the last block computes nothing but what is wanted."""
        x = self.placed(vectors, rows)
        *below, top = self.blocks
        for block in below:
            x = block(x, rows)
        assert isinstance(top, Block)
        x = top.last(x, rows)
        return self.norm(x) if self.is_pre else x

    def placed(self, vectors: Tensor, rows: Rows) -> Tensor:
        """Add the positions: [P, D]."""
        x = vectors + self.positions(from_the_end(rows, self.length))
        placed: Tensor = self.dropout(x if self.is_pre else self.norm(x))
        return placed


def from_the_end(rows: Rows, length: int) -> Tensor:
    """Give each item's position, L - 1 at the end of its history: [P] int64."""
    return rows.steps + length - rows.lengths[rows.owners]


def is_item(rows: Rows) -> Tensor:
    """Mark what of the padded rows are items, for attention: [B, 1, 1, T] bool."""
    T = rows.grid.shape[1]
    marks = torch.arange(T, device=rows.lengths.device) < rows.lengths[:, None]
    return marks[:, None, None]


def check_heads(width: int, heads: int) -> None:
    """See that a width can be divided among heads.

    Raises:
        Stop: it can't.
    """
    if width % heads:
        raise files.Stop(f"params.yaml: model.width ({width}) must be divisible by heads ({heads})")
