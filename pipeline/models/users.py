"""User encoders: the vectors of histories [P, D] -> a query vector after each item [P, D].

One signature: `encoder(vectors, rows)`, where P counts the items of all histories, one history
after another, and `rows` says whose they are: what is no item is never computed; and `last`, the
same for the last query vectors alone. The position index counts from the end, t + L - length, so
that the last item is always at L - 1, as in NineRec, whose rows are padded on the left.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.content import device
from pipeline.data import files
from pipeline.params import Section


class Rows(NamedTuple):
    """Whose item each of P is: histories one after another, and their places in padded rows."""

    lengths: Tensor  # [B] int64, 1..T
    owners: Tensor  # [P] int64, the history of each item
    steps: Tensor  # [P] int64, the item's place in its history
    grid: Tensor  # [B, T] int64, which of P stands there; past a history's end, its last item

    @classmethod
    def of(cls, lengths: np.ndarray) -> Self:
        """Lay out histories of the given lengths [B], none of them 0."""
        ends = np.cumsum(lengths)
        owners = np.repeat(np.arange(len(lengths)), lengths)
        steps = np.arange(len(owners)) - (ends - lengths)[owners]
        column = np.arange(lengths.max(initial=1))
        grid = np.minimum((ends - lengths)[:, None] + column, ends[:, None] - 1)
        return cls(*(torch.from_numpy(a) for a in (lengths, owners, steps, grid)))

    def to(self, where: torch.device) -> "Rows":
        """Move it to a device."""
        return Rows(*(device.move(tensor, where) for tensor in self))

    def pad(self, packed: Tensor) -> Tensor:
        """Lay [P, W] out as [B, T, W]; right of a history its last item stands again."""
        if len(packed) == self.grid.numel():  # nothing to pad
            return packed.view(*self.grid.shape, -1)
        # By F.embedding, whose gradient is fast and the same on any number of threads.
        return F.embedding(self.grid, packed)

    def pack(self, padded: Tensor) -> Tensor:
        """Take the items of [B, T, W] back out: [P, W]."""
        if len(self.owners) == self.grid.numel():
            return padded.flatten(0, 1)
        places = self.owners * self.grid.shape[1] + self.steps
        return F.embedding(places, padded.flatten(0, 1))

    def last(self) -> Tensor:
        """Give where in P each history ends: [B] int64."""
        return self.grid[:, -1]


class SasrecSettings(Section):
    """SASRec (Kang and McAuley, 2018) in NineRec's post-norm or in the pre-norm form."""

    blocks: PositiveInt
    heads: PositiveInt
    norm: Literal["pre", "post"]  # post: LayerNorm on the input and after each sum; pre: before
    activation: Literal["relu", "gelu"]
    expansion: PositiveInt  # width of the feed-forward layer over D
    dropout: float = Field(ge=0, lt=1)


class UserEncoders(Section):
    """The settings of each user encoder, by its name."""

    sasrec: SasrecSettings


class SasrecBlock(nn.Module):
    """Causal self-attention and a feed-forward layer, each with a residual sum."""

    def __init__(self, width: int, settings: SasrecSettings) -> None:
        super().__init__()
        if width % settings.heads:
            raise files.Stop(
                f"params.yaml: model.width ({width}) must be divisible by heads ({settings.heads})"
            )
        self.settings = settings
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.expand = nn.Linear(width, width * settings.expansion)
        self.contract = nn.Linear(width * settings.expansion, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.dropout = nn.Dropout(settings.dropout)
        self.activation = F.relu if settings.activation == "relu" else F.gelu

    def attend(self, x: Tensor, rows: Rows) -> Tensor:
        """Attend each item to itself and earlier ones; padding, on the right, is never seen."""
        H = self.settings.heads
        padded = rows.pad(self.qkv(x))  # [B, T, 3 D]
        B, T, _ = padded.shape
        q, k, v = padded.view(B, T, 3, H, -1).permute(2, 0, 3, 1, 4)
        drop = self.settings.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=drop, is_causal=True)
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
        is_item = torch.arange(T, device=x.device) < rows.lengths[:, None]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=is_item[:, None, None])
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


class UserEncoder(nn.Module):
    """What every user encoder does."""

    def forward(self, vectors: Tensor, rows: Rows) -> Tensor:
        """Encode histories.

        Args:
            vectors: [P, D], the items' vectors.
            rows: whose they are; no history is longer than L.

        Returns:
            [P, D], at an item the query vector of the history up to it.
        """
        raise NotImplementedError

    def last(self, vectors: Tensor, rows: Rows) -> Tensor:
        """Encode whole histories, in evaluation: [P, D] -> [B, D], and no more if it can be."""
        encoded: Tensor = self(vectors, rows)
        return encoded[rows.last()]


class Sasrec(UserEncoder):
    """Stacked causal blocks over item vectors with learned positions (NineRec c.2)."""

    def __init__(self, width: int, length: int, settings: SasrecSettings) -> None:
        super().__init__()
        self.length = length  # L, the longest history
        self.positions = nn.Embedding(length, width)
        self.norm = nn.LayerNorm(width, eps=1e-6)  # post: of the input; pre: of the output
        self.is_pre = settings.norm == "pre"
        self.dropout = nn.Dropout(settings.dropout)
        self.blocks = nn.ModuleList(SasrecBlock(width, settings) for _ in range(settings.blocks))
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.xavier_normal_(module.weight)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

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
        assert isinstance(top, SasrecBlock)
        x = top.last(x, rows)
        return self.norm(x) if self.is_pre else x

    def placed(self, vectors: Tensor, rows: Rows) -> Tensor:
        """Add the positions: [P, D]."""
        index = rows.steps + self.length - rows.lengths[rows.owners]
        x = vectors + self.positions(index)
        placed: Tensor = self.dropout(x if self.is_pre else self.norm(x))
        return placed


USER_ENCODERS: dict[str, Callable[[int, int, UserEncoders], UserEncoder]] = {
    "sasrec": lambda width, length, settings: Sasrec(width, length, settings.sasrec),
}


def build(name: str, width: int, length: int, settings: UserEncoders) -> UserEncoder:
    """Build a user encoder by its name, with D = `width` and L = `length`.

    Raises:
        Stop: there is no user encoder of this name.
    """
    if name not in USER_ENCODERS:
        raise files.Stop(
            f"user encoder {name!r} is unknown; params.yaml: users may list {[*USER_ENCODERS]}"
        )
    return USER_ENCODERS[name](width, length, settings)
