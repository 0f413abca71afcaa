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
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from pipeline.content import device, store
from pipeline.content.blocks import Content
from pipeline.params import Section

BUCKET = 256  # items that a GPU pads to one length
HALF = 0.5  # of the items that hide a modality hide the first


class HeadSettings(Section):
    """How an encoder's vectors become item vectors."""

    standardise: Literal["dimension", "scale", "none"]  # each dimension's, or one global, scale
    layers: Literal[1, 2]  # 1: Linear, GELU (the paper's); 2: Linear, GELU, Linear
    expansion: PositiveInt  # width of the hidden layer over D, where there are two


class TowerSettings(Section):
    """How content vectors become item vectors, alike whether encoders train or not."""

    head: HeadSettings
    paper_head: HeadSettings  # of the run `frozen_paper`
    fusion: Literal["sum", "concat", "gated"]
    # Share of items that hide one modality, while training with both.
    modality_dropout: float = Field(ge=0, lt=1)


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

    def forward(
        self, n: int, places: Mapping[str, Tensor], content: Mapping[str, Tensor]
    ) -> Tensor:
        """Fuse what is shown of n items.

        Args:
            n: how many items.
            places: for each modality [number shown] int64, which items show it, ascending.
            content: for each modality [number shown, C], the content vectors of those items.

        Returns:
            [n, D] item vectors.
        """
        parts = []
        for modality, head in self.heads.items():
            assert isinstance(head, Head)
            vectors = head(content[modality])
            part = head.missing.to(vectors.dtype).expand(n, -1)
            parts.append(part.index_copy(0, places[modality], vectors))
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

    def forward(self, items: Tensor, draws: Tensor | None = None) -> Tensor:
        """Look up items [n] int64 on the CPU, each 1..N -> [n, D]; nothing is drawn."""
        vectors: Tensor = self.table(device.move(items, self.table.weight.device))
        return vectors


class ContentTower(nn.Module):
    """What frozen and end-to-end towers share: which modalities an item shows, and the head."""

    def __init__(
        self, present: Mapping[str, np.ndarray], head: Fusion, modality_dropout: float
    ) -> None:
        super().__init__()
        self.head = head
        self.modality_dropout = modality_dropout
        self.present = {m: present[m] for m in sorted(present)}  # [N + 1] bool each

    @property
    def where(self) -> torch.device:
        """The device of the head."""
        return next(self.head.parameters()).device

    def shown(self, items: np.ndarray, draws: np.ndarray | None) -> dict[str, np.ndarray]:
        """Say which modality each item [n] shows: what it has, less what training hides."""
        shown = {m: mask[items] for m, mask in self.present.items()}
        if self.training and draws is not None and len(shown) > 1:
            (one, first), (other, second) = shown.items()
            hidden = (draws[0] < self.modality_dropout) & first & second
            is_one = draws[1] < HALF
            shown = {one: first & ~(hidden & is_one), other: second & ~(hidden & ~is_one)}
        return shown

    def forward(self, items: Tensor, draws: Tensor | None = None) -> Tensor:
        """Make the vectors of items -> [n, D].

        Args:
            items: [n] int64 on the CPU, each 1..N and none twice.
            draws: [2, n] uniform in [0, 1), for training to hide modalities by.
        """
        wanted = items.numpy()
        shown = self.shown(wanted, None if draws is None else draws.numpy())
        places = {m: np.flatnonzero(mask) for m, mask in shown.items()}
        content = {m: self.content(m, wanted[rows]) for m, rows in places.items()}
        moved = {m: device.move(torch.from_numpy(rows), self.where) for m, rows in places.items()}
        vectors: Tensor = self.head(len(wanted), moved, content)
        return vectors

    def content(self, modality: str, items: np.ndarray) -> Tensor:
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

    def content(self, modality: str, items: np.ndarray) -> Tensor:
        """Look the content vectors up."""
        return self.get_buffer(f"vectors_{modality}")[
            device.move(torch.from_numpy(items), self.where)
        ]


class EndToEndTower(ContentTower):
    """Encoder -> head, learning together: each item of a call is encoded once."""

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        contents: Mapping[str, Content],
        head: Fusion,
        modality_dropout: float,
        micro_batch: int = 0,
    ) -> None:
        """Join encoders and head.

        Args:
            encoders: by modality.
            contents: what they read, by modality.
            head: over their vectors.
            modality_dropout: share of items that hide a modality, in training.
            micro_batch: items whose activations are held at once while training; 0 = all of a
                step. Each pass is done again for its gradient; without dropout in an encoder,
                vectors and gradients are the same, with it they are of other masks.
        """
        super().__init__({m: c.present for m, c in contents.items()}, head, modality_dropout)
        self.encoders = nn.ModuleDict(encoders)
        self.contents = contents
        self.micro_batch = micro_batch

    def content(self, modality: str, items: np.ndarray) -> Tensor:
        """Encode the items, those of like length together."""
        if len(items) == 0:
            width = self.encoders[modality].width
            return torch.empty(0, int(width), device=self.where)  # type: ignore[arg-type]
        lengths = self.contents[modality].lengths[items]
        is_micro = self.micro_batch > 0 and torch.is_grad_enabled()
        size = self.micro_batch if is_micro else self.bucket(lengths)
        if len(items) <= size:
            return self.encode(modality, items)
        order = np.argsort(lengths, kind="stable")
        passes = np.split(items[order], range(size, len(items), size))
        if is_micro:
            # GradCache by activation checkpointing: a pass keeps its vectors alone. A tensor of the
            # GPU is among the arguments, since only then its generator's state is kept for dropout.
            anchor = torch.empty(0, device=self.where)
            parts = [
                checkpoint(self.encode, modality, some, anchor, use_reentrant=False)
                for some in passes
            ]
        else:
            parts = [self.encode(modality, some) for some in passes]
        back = device.move(torch.from_numpy(np.argsort(order)), self.where)
        return F.embedding(back, torch.cat(parts))

    def encode(self, modality: str, items: np.ndarray, anchor: Tensor | None = None) -> Tensor:
        """Encode items in one pass: [n, C]; `anchor` only says on which device, see `content`."""
        assert anchor is None or anchor.device == self.where
        batch = self.contents[modality].batch(items)
        vectors: Tensor = self.encoders[modality](batch)
        return vectors

    def bucket(self, lengths: np.ndarray) -> int:
        """Give how many items are padded to the same length; the CPU's encoders see to it alone."""
        is_even = lengths.min() == lengths.max()
        return len(lengths) if is_even or self.where.type == "cpu" else BUCKET
