"""The encoder as a module: its blocks from bottom to top, and which of them train."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.content import device, specification
from pipeline.data import files

CHUNK = 32  # items at once on a CPU; MobileNetV2 at 96 pixels: 290/s, but 120/s at 256 at once

HIDDEN = "hidden"  # in a batch: what the lowest trained block reads, instead of content
MASK = "attention_mask"  # beside it, where rows differ in length

Block = Callable[..., Tensor]  # takes `hidden` [n, ...], of texts the layers' mask too


class Content(Protocol):
    """What all items of a domain say in one modality, ready to be encoded."""

    present: np.ndarray  # [N + 1] bool; PAD has none
    lengths: np.ndarray  # [N + 1] int64, an item's cost, to sort by; 0 where there is nothing

    def batch(self, items: np.ndarray) -> dict[str, Tensor]:
        """Give the encoder's input for [n] items, all of them present."""

    def digest(self) -> str:
        """Give the sha256 of all contents."""


class Encoder(nn.Module):
    """A text or image model with its preprocessing and pooling: content -> vector [C]."""

    modality: str
    width: int  # C
    spec: specification.Spec  # whole: nothing is left to the library's defaults
    layers: int  # top blocks in which something trains; more than there are where all does
    _trained: list[nn.Module]  # these, or the encoder itself

    @classmethod
    def fetch(cls, spec: specification.Spec) -> Self:
        """Get a public encoder by its specification: from a folder, a package or a download."""
        raise NotImplementedError

    @classmethod
    def open(cls, folder: Path, spec: specification.Spec) -> Self:
        """Read what `write` wrote."""
        raise NotImplementedError

    def write(self, folder: Path) -> None:
        """Write the model into a folder in its library's own format."""
        raise NotImplementedError

    def blocks(self) -> list[nn.Module]:
        """List the blocks from bottom to top; empty where the structure is not known."""
        raise NotImplementedError

    def above(self) -> list[nn.Module | nn.Parameter]:
        """List what stands above the blocks: final norm, projection."""
        raise NotImplementedError

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Encode a batch: [n, C] in the model's dtype, whatever device it comes from.

        The batch is content, or what `prefix` made of it. On the CPU in chunks of like cost: the
        activations of more items don't fit its caches.
        """
        batch = self._here(batch)
        encode = self.suffix if HIDDEN in batch else self.whole
        n = len(next(iter(batch.values())))
        if self.device.type != "cpu" or n <= CHUNK:
            return encode(batch)
        order = self.order(batch)
        parts = [encode(self.take(batch, rows)) for rows in torch.split(order, CHUNK)]
        return torch.cat(parts)[torch.argsort(order)]

    def encode(self, batch: dict[str, Tensor]) -> Tensor:
        """Encode a batch at once, as the library does: [n, C]."""
        raise NotImplementedError

    def whole(self, batch: dict[str, Tensor]) -> Tensor:
        """Encode a batch at once, the topmost block for what pooling reads alone: [n, C].

        Where the family is known, part by part: transformers' own forward pass waits for a GPU.
        """
        if not self.can_divide:
            return self.encode(batch)
        return self._up(self.blocks(), self.enter(batch))

    @torch.no_grad()
    def prefix(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run what never changes, below the lowest trained block, on a batch from any device.

        `suffix(prefix(batch))` is `whole(batch)`, values and gradients, and with dropout off
        `encode(batch)`. Where nothing trains, the prefix is the whole encoder.

        Returns:
            {hidden: [n, ...]}, and for texts {attention_mask: [n, T]} beside [n, T, width].
        """
        batch = self._here(batch)
        if self.is_frozen:
            return {HIDDEN: self.whole(batch)}
        state = self.enter(batch)
        return state | {HIDDEN: self.through(self.blocks()[: -self.layers], state)}

    def suffix(self, state: dict[str, Tensor]) -> Tensor:
        """Run what trains on what `prefix` gave: [n, C]."""
        if self.is_frozen:
            return state[HIDDEN]
        return self._up(self._trained, state)

    def _up(self, blocks: list[nn.Module], state: dict[str, Tensor]) -> Tensor:
        """Run the blocks up to the topmost, and what stands above: [n, C]."""
        *others, top = blocks
        run: list[Block] = [*others, self.topmost(top)]
        return self.leave(state | {HIDDEN: self.through(run, state)})

    @property
    def has_prefix(self) -> bool:
        """Whether blocks that never change can be run apart from the rest."""
        return self.is_frozen or (not self.trains_whole and self.can_divide)

    @property
    def trains_whole(self) -> bool:
        """Whether all blocks train, so that next to nothing is frozen."""
        return self.layers >= max(1, len(self.blocks()))

    @property
    def can_divide(self) -> bool:
        """Whether `enter`, `through` and `leave` are known for this family of models."""
        return False

    def enter(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run what lies below the blocks on a batch of content: the state the first one reads."""
        raise NotImplementedError

    def through(self, blocks: Iterable[Block], state: dict[str, Tensor]) -> Tensor:
        """Run blocks, one after another: the last one's `hidden`."""
        raise NotImplementedError

    def topmost(self, block: nn.Module) -> Block:
        """Give the topmost block as far as what stands above reads it.

        Where that is the first token alone, the block's rest behind keys and values is computed for
        that token alone. Its own hooks and torch.compile's version of it are not called then.
        """
        return block if self.first is None else partial(self.first, block)

    @property
    def first(self) -> Block | None:
        """How a block is run for the first token alone, if what stands above reads no other."""
        return None

    def leave(self, state: dict[str, Tensor]) -> Tensor:
        """Run what stands above the blocks: [n, C]."""
        raise NotImplementedError

    def order(self, batch: dict[str, Tensor]) -> Tensor:
        """Order a batch's rows so that neighbours cost the same: [n] int64."""
        return torch.arange(len(next(iter(batch.values()))))

    def take(self, batch: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        """Take some rows of a batch."""
        return {name: tensor[rows] for name, tensor in batch.items()}

    @property
    def specification(self) -> dict[str, object]:
        """The whole specification as JSON holds it."""
        return self.spec.model_dump(exclude_none=True)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' dtype."""
        return next(self.parameters()).dtype

    def unfreeze(self, layers: int | Literal["all"]) -> None:
        """Let the top `layers` blocks train with what stands above them; 0 nothing, "all" all.

        Raises:
            files.Stop: there are fewer blocks than that.
        """
        if layers == "all":
            self._trained, self.layers = [self], len(self.blocks()) + 1
        else:
            self.choose(layers, "end2end.trainable.layers")
        for parameter in self.above_prefix().values():
            parameter.requires_grad_(True)
        self.train(self.training)

    def choose(self, layers: int | Literal["all"], said: str) -> list[nn.Module]:
        """Freeze everything, and give the top `layers` blocks, in which something shall train.

        Args:
            layers: how many.
            said: where params.yaml says so.

        Raises:
            files.Stop: there are fewer blocks than that, or they are not known.
        """
        self._trained = self._top(layers, said)
        self.layers = len(self._trained)
        self.requires_grad_(False)
        return self._trained

    @property
    def is_frozen(self) -> bool:
        """Whether nothing trains."""
        return not self.layers

    def above_prefix(self) -> dict[str, nn.Parameter]:
        """Give the parameters that `prefix` never reads, by name, whether they train or not."""
        parts = [*self._trained, *self.above()] if self._trained else []
        lists = [[part] if isinstance(part, nn.Parameter) else part.parameters() for part in parts]
        own = {id(parameter) for parameters in lists for parameter in parameters}
        return {name: p for name, p in self.named_parameters() if id(p) in own}

    def _here(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: device.move(tensor, self.device) for name, tensor in batch.items()}

    def _top(self, layers: int | Literal["all"], said: str) -> list[nn.Module]:
        if layers == 0:
            return []
        blocks = self.blocks()
        if not blocks:
            raise files.Stop(
                f"{said} is {layers}, but the blocks of {self.spec.model!r} "
                f"({self.spec.library}) are not known. Set end2end.trainable.layers to 'all' or 0."
            )
        if layers == "all":
            return blocks
        if not 0 <= layers <= len(blocks):
            raise files.Stop(
                f"{said} is {layers}, but {self.spec.model!r} has "
                f"{len(blocks)} blocks. Give 0 to {len(blocks)}, or 'all'."
            )
        return blocks[len(blocks) - layers :]

    def train(self, mode: bool = True) -> Self:
        """Train the unfrozen blocks only, with batch norm on its running statistics always.

        So dropout acts in trained blocks alone, and a vector never depends on its batch.
        """
        super().train(False)
        for block in getattr(self, "_trained", []) if mode else []:
            for module in block.modules():
                # Set one by one: `train` of this very module would call itself.
                module.training = not isinstance(module, _BatchNorm)
        self.training = mode
        return self
