"""Towers: item ids [n] -> item vectors [n, D], one signature; and the head content towers share.

`frozen` and `end2end` differ in one line: whether an item's content vectors are looked up or made
by an encoder that learns. `tuned` is `frozen` over another encoder's embeddings.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from pipeline.content import store
from pipeline.content.blocks import Content
from pipeline.params import Section


class HeadSettings(Section):
    """How an encoder's vectors become item vectors."""

    standardise: Literal["dimension", "scale", "none"]  # each dimension's, or one global, scale
    layers: Literal[1, 2]  # 1: Linear, GELU (the paper's); 2: Linear, GELU, Linear
    expansion: PositiveInt  # width of the hidden layer over D, where there are two


class TowerSettings(Section):
    """What every content tower shares."""

    head: HeadSettings
    paper_head: HeadSettings  # of the run `frozen_paper`
    fusion: Literal["sum", "concat", "gated"]
    modality_dropout: float = Field(
        ge=0, lt=1
    )  # share of items that hide one modality, while training with both


class Head(nn.Module):
    """One modality's content vectors [n, C] -> [n, D]: fixed standardisation, then learned layers.

    The statistics are those of the starting encoder over the catalogue at hand; items without this
    modality take the learned vector `missing` instead.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, embedded: store.Embedded, width: int, settings: HeadSettings) -> None:
        super().__init__()
        channels = embedded.vectors.shape[1]
        mean, scale = np.zeros(channels, np.float32), np.ones(channels, np.float32)
        if settings.standardise != "none":
            mean = embedded.mean
            scale = embedded.sd if settings.standardise == "dimension" else scale * embedded.scale
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("scale", torch.tensor(scale))
        hidden = width * settings.expansion if settings.layers > 1 else width
        layers: list[nn.Module] = [nn.Linear(channels, hidden), nn.GELU()]
        if settings.layers > 1:
            layers.append(nn.Linear(hidden, width))
        self.layers = nn.Sequential(*layers)
        self.missing = nn.Parameter(torch.zeros(width))

    def forward(self, vectors: Tensor) -> Tensor:
        """Map content vectors [n, C] to [n, D]."""
        projected: Tensor = self.layers((vectors - self.mean) / self.scale)
        return projected


class Fusion(nn.Module):
    """Heads of the modalities at hand, and how their vectors become one: by sum, concat or gate.

    Formulas as in NineRec's multimodal code: sum `t + v`, concat `W [t; v]`,
    gated `W_o (sigmoid(W_t t) * W_v v)`; with one modality the head's vector is the item's.
    """

    def __init__(
        self, embedded: Mapping[str, store.Embedded], width: int, head: HeadSettings, fusion: str
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({m: Head(e, width, head) for m, e in sorted(embedded.items())})
        self.fusion = fusion if len(embedded) > 1 else "sum"
        if self.fusion == "concat":
            self.mix = nn.Linear(width * len(embedded), width)
        elif self.fusion == "gated":
            self.gate = nn.Linear(width, width)
            self.value = nn.Linear(width, width)
            self.mix = nn.Linear(width, width)

    def forward(self, shown: Mapping[str, Tensor], content: Mapping[str, Tensor]) -> Tensor:
        """Fuse what is shown of each item.

        Args:
            shown: for each modality [n] bool, whether an item shows it.
            content: for each modality [number shown, C], the content vectors of those items.

        Returns:
            [n, D] item vectors.
        """
        parts = []
        for modality, head in self.heads.items():
            assert isinstance(head, Head)
            n = len(shown[modality])
            vectors = head(content[modality])
            part = head.missing.to(vectors.dtype).expand(n, -1)
            parts.append(part.index_copy(0, shown[modality].nonzero().squeeze(1), vectors))
        if self.fusion == "sum":
            return torch.stack(parts).sum(0)
        if self.fusion == "concat":
            mixed: Tensor = self.mix(torch.cat(parts, dim=1))
            return mixed
        image, text = parts  # in the order of their names
        gated: Tensor = self.mix(torch.sigmoid(self.gate(text)) * self.value(image))
        return gated


class IdTower(nn.Module):
    """A table of learned vectors, one an item: what transferable towers are measured against."""

    def __init__(self, n_items: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(n_items + 1, width)
        # Scores begin at unit scale. On 631 users: std 0.02 and 0.3 learned late and ended lower.
        nn.init.normal_(self.table.weight, std=width**-0.5)

    def forward(self, items: Tensor) -> Tensor:
        """Look up items [n] int64, each 1..N -> [n, D]."""
        vectors: Tensor = self.table(items)
        return vectors


class ContentTower(nn.Module):
    """What frozen and end-to-end towers share: which modalities an item shows, and the head."""

    def __init__(
        self, present: Mapping[str, np.ndarray], head: Fusion, modality_dropout: float
    ) -> None:
        super().__init__()
        self.head = head
        self.modality_dropout = modality_dropout
        for modality, mask in present.items():
            self.register_buffer(f"present_{modality}", torch.tensor(mask), persistent=False)
        self.modalities = sorted(present)

    def shown(self, items: Tensor) -> dict[str, Tensor]:
        """Say which modality each item [n] shows: what it has, less what training hides."""
        shown = {m: self.get_buffer(f"present_{m}")[items] for m in self.modalities}
        if self.training and self.modality_dropout > 0 and len(shown) > 1:
            first, second = (shown[m] for m in self.modalities)
            draws = torch.rand(2, len(items), device=items.device)
            hidden = (draws[0] < self.modality_dropout) & first & second
            shown[self.modalities[0]] = first & ~(hidden & (draws[1] < 0.5))  # noqa: PLR2004
            shown[self.modalities[1]] = second & ~(hidden & (draws[1] >= 0.5))  # noqa: PLR2004
        return shown

    def forward(self, items: Tensor) -> Tensor:
        """Make the vectors of items [n] int64, each 1..N and none twice -> [n, D]."""
        shown = self.shown(items)
        vectors: Tensor = self.head(shown, {m: self.content(m, items[shown[m]]) for m in shown})
        return vectors

    def content(self, modality: str, items: Tensor) -> Tensor:
        """Give the content vectors [n, C] of items [n] that have this modality."""
        raise NotImplementedError


class FrozenTower(ContentTower):
    """Precomputed embeddings -> head: public ones (`frozen`) or source-tuned ones (`tuned`)."""

    def __init__(
        self, embedded: Mapping[str, store.Embedded], head: Fusion, modality_dropout: float
    ) -> None:
        super().__init__({m: e.present for m, e in embedded.items()}, head, modality_dropout)
        for modality, e in embedded.items():
            vectors = torch.from_numpy(np.array(e.vectors))
            self.register_buffer(f"vectors_{modality}", vectors, persistent=False)

    def content(self, modality: str, items: Tensor) -> Tensor:
        """Look the content vectors up."""
        return self.get_buffer(f"vectors_{modality}")[items]


class EndToEndTower(ContentTower):
    """Encoder -> head, learning together: each item of a call is encoded once."""

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        contents: Mapping[str, Content],
        head: Fusion,
        modality_dropout: float,
    ) -> None:
        super().__init__({m: c.present for m, c in contents.items()}, head, modality_dropout)
        self.encoders = nn.ModuleDict(encoders)
        self.contents = contents

    def content(self, modality: str, items: Tensor) -> Tensor:
        """Encode the items."""
        encoder = self.encoders[modality]
        if len(items) == 0:
            return torch.empty(0, int(encoder.width), device=items.device)  # type: ignore[arg-type]
        batch = self.contents[modality].batch(items.cpu().numpy())
        vectors: Tensor = encoder({k: v.to(items.device) for k, v in batch.items()})
        return vectors
