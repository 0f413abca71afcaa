"""User encoders: the vectors of a history [B, T, D] -> a query vector after each item [B, T, D].

One signature: `encoder(vectors, lengths)` with right-padded rows; what stands at padded slots is
neither read nor meant. The position index counts from the end, t + L - length, so that the last
item is always at L - 1, as in NineRec, whose rows are padded on the left.
"""

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data import files
from pipeline.params import Section


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

    def attend(self, x: Tensor) -> Tensor:
        """Attend each slot to itself and earlier ones; padding, on the right, is never seen."""
        B, T, D = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.settings.heads, -1).permute(2, 0, 3, 1, 4)
        drop = self.settings.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=drop, is_causal=True)
        attended: Tensor = self.dropout(self.out(mixed.transpose(1, 2).reshape(B, T, D)))
        return attended

    def feed(self, x: Tensor) -> Tensor:
        """Apply the feed-forward layer."""
        fed: Tensor = self.dropout(self.contract(self.activation(self.expand(x))))
        return fed

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, T, D] to [B, T, D]."""
        for layer, norm in zip((self.attend, self.feed), self.norms, strict=True):
            x = x + layer(norm(x)) if self.settings.norm == "pre" else norm(x + layer(x))
        return x


class Sasrec(nn.Module):
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

    def forward(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Encode histories.

        Args:
            vectors: [B, T, D], T <= L, right-padded.
            lengths: [B] int64, 1..T.

        Returns:
            [B, T, D], at slot t the query vector of the history up to t.
        """
        slots = torch.arange(vectors.shape[1], device=vectors.device)
        index = (slots + self.length - lengths[:, None]).clamp(max=self.length - 1)
        x = vectors + self.positions(index)
        x = self.dropout(x if self.is_pre else self.norm(x))
        for block in self.blocks:
            x = block(x)
        encoded: Tensor = self.norm(x) if self.is_pre else x
        return encoded


USER_ENCODERS: dict[str, Callable[[int, int, UserEncoders], nn.Module]] = {
    "sasrec": lambda width, length, settings: Sasrec(width, length, settings.sasrec),
}


def build(name: str, width: int, length: int, settings: UserEncoders) -> nn.Module:
    """Build a user encoder by its name, with D = `width` and L = `length`.

    Raises:
        Stop: there is no user encoder of this name.
    """
    if name not in USER_ENCODERS:
        raise files.Stop(
            f"user encoder {name!r} is unknown; params.yaml: users may list {[*USER_ENCODERS]}"
        )
    return USER_ENCODERS[name](width, length, settings)
