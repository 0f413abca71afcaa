"""Covers as packed pixels, and what image encoders share: resizing, normalising."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.content import device, specification
from pipeline.content.blocks import HIDDEN, Block, Encoder
from pipeline.content.specification import Preprocess, Spec
from pipeline.data import covers, files

READ = 256  # covers read at a time: 40 MB at 224 pixels

# What a reader of models raises where a name, a file or an option does not fit.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError)

Steps = Sequence[Callable[[Tensor], Tensor]]


class Ends(NamedTuple):
    """What stands around a net's blocks: steps that each take the former's result."""

    below: Steps
    above: Steps
    # Where `above` reads the first token alone: runs a block on [n, T, width] for that token alone,
    # [n, 1, width].
    first: Callable[[Any, Tensor], Tensor] | None = None


class ImageEncoder(Encoder):
    """An image model over covers of any size: resize, scale to [0, 1], normalise, encode."""

    modality = "image"
    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, spec: Spec) -> None:
        super().__init__()
        assert spec.preprocess is not None, "a fetched image encoder knows its preprocessing"
        self.spec, self.preprocess = spec, spec.preprocess
        # Covers arrive as [n, S, S, 3]: to the channels-last kernels, that is no copy.
        self.net = net.float().to(memory_format=torch.channels_last)
        for name in ("mean", "std"):
            value = torch.tensor(getattr(self.preprocess, name)).view(3, 1, 1)
            self.register_buffer(name, value, persistent=False)
        self.unfreeze(0)
        size = self.preprocess.pixels
        try:
            with torch.no_grad():
                grey = torch.full((1, size, size, 3), 128, dtype=torch.uint8)
                self.width = int(self.eval()({"pixels": grey}).shape[1])
        except (RuntimeError, ValueError, AssertionError, IndexError) as error:
            raise files.Stop(
                f"{spec.model!r} can't encode covers at preprocess.pixels {size} ({error}). "
                "Give the size it is built for."
            ) from error

    def encode(self, batch: dict[str, Tensor]) -> Tensor:
        """Encode {pixels}: [n, S, S, 3] uint8 -> [n, C]."""
        encoded: Tensor | tuple[Tensor, Tensor] = self.net(self.normalised(batch))
        return encoded if isinstance(encoded, Tensor) else encoded[0]  # CoCa gives tokens too

    def normalised(self, batch: dict[str, Tensor]) -> Tensor:
        """Resize, scale and normalise {pixels}: [n, S, S, 3] uint8 -> [n, 3, S, S]."""
        pixels = batch["pixels"].permute(0, 3, 1, 2).to(self.dtype) / 255
        size = self.preprocess.pixels
        if pixels.shape[-1] != size or pixels.shape[-2] != size:
            mode = self.preprocess.interpolation
            pixels = F.interpolate(pixels, size=(size, size), mode=mode, antialias=True)
            pixels = pixels.clamp(0, 1)  # bicubic overshoots
        return (pixels - self.mean) / self.std

    @property
    def can_divide(self) -> bool:
        """Whether the net's chain is known."""
        return self.ends() is not None

    def enter(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run what lies below the blocks: {hidden: [n, ...]}, tokens or a feature map."""
        return {HIDDEN: _run(self._ends().below, self.normalised(batch))}

    def through(self, blocks: Iterable[Block], state: dict[str, Tensor]) -> Tensor:
        """Run blocks, one after another."""
        return _run(blocks, state[HIDDEN])

    @property
    def first(self) -> Block | None:
        """How a block is run for the first token alone, if pooling reads no other."""
        ends = self.ends()
        return None if ends is None else ends.first

    def leave(self, state: dict[str, Tensor]) -> Tensor:
        """Run what stands above the blocks: [n, C]."""
        return _run(self._ends().above, state[HIDDEN])

    def ends(self) -> Ends | None:
        """Give what stands around the blocks, where the net is a chain of a known family."""
        raise NotImplementedError

    def _ends(self) -> Ends:
        ends = self.ends()
        assert ends is not None, "asked of a net that can be divided"
        return ends

    def weights(self) -> dict[str, Tensor]:
        """The net's tensors as files hold them."""
        return {name: value.contiguous() for name, value in self.net.state_dict().items()}

    def blocks(self) -> list[nn.Module]:
        """List the blocks or stages from bottom to top."""
        matches = self._structure()[1]
        return [module for name, module in self.net.named_modules() if matches(name)]

    def above(self) -> list[nn.Module | nn.Parameter]:
        """List what is neither a block nor below the blocks."""
        is_below, _ = self._structure()
        blocks = {id(p) for block in self.blocks() for p in block.parameters()}
        return [
            parameter
            for name, parameter in self.net.named_parameters()
            if id(parameter) not in blocks and not is_below(name)
        ]

    def _structure(self) -> tuple[Callable[[str], bool], Callable[[str], bool]]:
        """Tell whether a parameter lies below the blocks, and whether a module is a block."""
        raise NotImplementedError


class ImageContent:
    """The packed covers of items 1..N."""

    def __init__(self, pack: covers.Pack, encoder: Encoder) -> None:
        assert encoder.modality == "image", "covers are for image encoders"
        self.pixels, self.rows = pack.pixels, pack.rows
        self.resident: Tensor | None = None  # the covers on a GPU
        self.present = self.rows >= 0
        self.lengths = self.present.astype(np.int64)  # every cover costs the same

    def batch(self, items: np.ndarray) -> dict[str, Tensor]:
        """Give [n] items' covers: [n, S, S, 3] uint8.

        Raises:
            ValueError: one of them has no cover.
        """
        if not self.present[items].all():
            raise ValueError(f"items without cover: {items[~self.present[items]][:5]}")
        rows = self.rows[items]
        if self.resident is not None:
            where = self.resident.device
            return {"pixels": self.resident[device.move(torch.from_numpy(rows).long(), where)]}
        return {"pixels": torch.from_numpy(np.asarray(self.pixels[rows]))}

    def stay(self, where: torch.device) -> None:
        """Keep all covers on a GPU if it has room, for an encoder that reads them at every step."""
        if not device.has_room(where, self.pixels.nbytes):
            return
        self.resident = torch.empty(self.pixels.shape, dtype=torch.uint8, device=where)
        for start in range(0, len(self.pixels), READ):
            some = self.pixels[start : start + READ].copy()  # torch takes no read-only memory
            self.resident[start : start + READ] = torch.from_numpy(some)

    def digest(self) -> str:
        """Hash the covers in the items' order, missing ones as such."""
        digest = hashlib.sha256(f"{self.pixels.shape[1:]}".encode() + self.present.tobytes())
        rows = self.rows[self.present]
        for start in range(0, len(rows), READ):
            digest.update(self.pixels[rows[start : start + READ]].tobytes())
        return digest.hexdigest()


def _run(steps: Iterable[Callable[[Tensor], Tensor]], x: Tensor) -> Tensor:
    for step in steps:
        x = step(x)
    return x


def resolved(spec: Spec, own: dict[str, Any]) -> Spec:
    """Fill the preprocessing in from the model's own.

    Raises:
        files.Stop: the model reads images that are no squares.
    """
    if spec.preprocess is not None:
        return spec
    size = own.get("size", 224)
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise files.Stop(f"{spec.model!r} reads images of {size}; only squares are supported.")
    preprocess = Preprocess(
        pixels=sides.pop(),
        mean=[float(value) for value in own.get("mean", (0.48145466, 0.4578275, 0.40821073))],
        std=[float(value) for value in own.get("std", (0.26862954, 0.26130258, 0.27577711))],
        interpolation="bilinear" if own.get("interpolation") == "bilinear" else "bicubic",
    )
    return spec.model_copy(update={"preprocess": preprocess})


def because(error: Exception) -> str:
    """Say why a folder can't be read."""
    text = str(error).strip()
    return f"can't be read ({type(error).__name__}: {text[:300]})."


def missing(name: str, spec: Spec, error: Exception) -> str:
    """Say that an encoder is neither here nor to be had, or not with its options; what to do."""
    if spec.options and isinstance(error, TypeError):
        return specification.unknown_options(spec, error)
    from huggingface_hub import constants  # comes with timm

    offline = (
        " HF_HUB_OFFLINE is set, so nothing was downloaded." if constants.HF_HUB_OFFLINE else ""
    )
    if spec.weights is not None and Path(spec.weights).is_file():
        return f"the image encoder {name} with the weights {spec.weights} {because(error)}"
    return (
        f"the image encoder {name} could not be downloaded ({type(error).__name__}: "
        f"{str(error).strip()[:300]}).{offline} The cache looked in: {constants.HF_HUB_CACHE}. "
        + specification.local_copy("image")
    )
