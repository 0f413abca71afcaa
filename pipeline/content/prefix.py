"""What never changes of an encoder that trains, run once an item and kept.

With the top blocks training, all below gives the same activations at every step. Kept, they cost
one pass over the catalogue; vectors and gradients are those of the whole encoder.
"""

import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import torch
from torch import Tensor

from pipeline.content import device, embed, encoders, processes
from pipeline.content.blocks import CHUNK, HIDDEN, MASK, Content, Encoder
from pipeline.data import files, scratch
from pipeline.data.progress import Progress
from pipeline.machine import PrefixCache

GPU_CHUNK = 256  # items a pass there; fixed, as CHUNK is, so that filling again gives equal bytes
DATA, ABOUT = "activations.bin", "about.json"
SAID = {"bytes", "dtype", "is_ragged", "made_of", "seconds", "shape"}  # in ABOUT


class Kept:
    """The activations of items 1..N: content of its own kind, which the encoder goes on from."""

    def __init__(self, folder: Path, content: Content, where: torch.device) -> None:
        about = files.read_json(folder / ABOUT)
        self.present, self.lengths = content.present, content.lengths
        self.seconds: float = about["seconds"]
        self.bytes: int = about["bytes"]
        self.is_ragged: bool = about["is_ragged"]
        self.digest = content.digest
        items = embed.order(content)
        rows = _rows(content, items, self.is_ragged)
        shape = (sum(rows), *about["shape"])
        dtype = {str(d): d for d in (torch.float64, torch.float32, torch.bfloat16)}[about["dtype"]]
        size = int(np.prod(shape))
        # Shared: a private map counts as memory, and one larger than the machine's is refused.
        flat = torch.from_file(str(folder / DATA), shared=True, size=size, dtype=dtype)
        self.flat = flat.view(shape)  # [rows, ...], mapped from disk
        if device.has_room(where, self.bytes):
            self.flat = self.flat.to(where)
        self.starts = np.zeros(len(self.present), np.int64)  # [N + 1], an item's first row
        self.starts[items] = np.cumsum([0, *rows[:-1]])

    def batch(self, items: np.ndarray) -> dict[str, Tensor]:
        """Give [n] items' activations: {hidden: [n, ...]}, texts padded to the longest of these.

        Raises:
            ValueError: one of them has no such content.
        """
        if not self.present[items].all():
            raise ValueError(f"items without content: {items[~self.present[items]][:5]}")
        if not self.is_ragged:
            return {HIDDEN: self._take(self.starts[items])}
        lengths = self.lengths[items][:, None]
        column = np.arange(lengths.max(initial=0))
        hidden = self._take(self.starts[items][:, None] + np.minimum(column, lengths - 1))
        mask = torch.from_numpy((column < lengths).astype(np.int64))
        return {HIDDEN: hidden, MASK: mask}

    def _take(self, rows: np.ndarray) -> Tensor:
        return self.flat[device.move(torch.from_numpy(rows), self.flat.device)]


def keep(
    encoder: Encoder, content: Content, root: Path, where: torch.device, cache: PrefixCache
) -> Content:
    """Give what an encoder reads while its top trains: kept activations, or else the content.

    Args:
        encoder: with what trains of it unfrozen, on any device.
        content: the items.
        root: the scratch folder of this domain's activations, kept under a name that stands for all
            they depend on: frozen weights, how many blocks, precision, contents and code. What is
            there of another encoder, or of contents that have changed, is dropped with a warning.
        where: the device that encodes.
        cache: `off` never keeps; `required` stops where `auto` goes without.

    Raises:
        files.Stop: the encoder's family can't be divided and `cache` is `required`, or the disk is
            too small.
    """
    check(encoder, cache)
    if cache == "off" or encoder.trains_whole:
        return content
    if not encoder.has_prefix:
        if processes.is_first():
            sys.stderr.write(f"prefix: {_undivided(encoder)}; nothing is kept\n")
        return content
    made_of = {
        "encoder": encoder.specification,
        "weights": encoders.weights(encoder, frozen=True),
        "layers": encoder.layers,
        "dtype": str(_dtype(encoder, where)),
        "contents": content.digest(),
    }
    key = scratch.key(made_of, scratch.state([], [Path(__file__).parent]))
    folder = root / f"{encoder.modality}-{key}"
    with processes.alone(folder):
        if processes.is_first():  # while the others wait
            for other in root.glob(f"{encoder.modality}-*"):
                if other.is_dir() and other != folder:
                    _drop(other, made_of)
            if not _is_whole(folder):
                scratch.clear(folder)
                fill(encoder.to(where), content, folder, made_of)
        processes.wait()
        return Kept(folder, content, where)  # mapped before another command may drop it


def check(encoder: Encoder, cache: PrefixCache) -> None:
    """See that what must be kept of an encoder can be.

    Args:
        encoder: with what trains of it unfrozen.
        cache: as `keep` takes it.

    Raises:
        files.Stop: `cache` is `required` and the encoder's family can't be divided.
    """
    if cache == "required" and not (encoder.has_prefix or encoder.trains_whole):
        raise files.Stop(
            f"machine.prefix_cache is 'required', but {_undivided(encoder)}. Set it to 'auto': "
            "training is the same and takes longer."
        )


def _undivided(encoder: Encoder) -> str:
    """Say that an encoder's family can't be run in two parts."""
    return f"the blocks of {encoder.spec.model!r} ({encoder.spec.library}) can't be run apart"


def fill(encoder: Encoder, content: Content, folder: Path, made_of: Mapping[str, object]) -> None:
    """Run the frozen part on every item, longest first, and write what comes out.

    Args:
        encoder: on the device that encodes.
        content: the items.
        folder: where to write; it need not be there.
        made_of: what the activations depend on, to be written beside them.

    Raises:
        files.Stop: the disk, or the device's memory, is too small; nothing of the activations is
            left.
    """
    items = embed.order(content)
    size = CHUNK if encoder.device.type == "cpu" else GPU_CHUNK
    first, *others = [items[start : start + size] for start in range(0, len(items), size)]
    progress = Progress(f"prefix {encoder.modality}", len(items))
    began = time.perf_counter()
    about: dict[str, Any] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        rows, is_ragged = _encode(encoder, content, first)
        shape, n = list(rows.shape[1:]), sum(_rows(content, items, is_ragged))
        needed = n * int(np.prod(shape)) * rows.itemsize
        about = {"is_ragged": is_ragged, "shape": shape, "dtype": str(rows.dtype), "bytes": needed}
        _check_room(folder, needed)
        with (folder / DATA).open("wb") as file:
            _write(file, rows)
            progress.advance(len(first))
            for some in others:
                _write(file, _encode(encoder, content, some)[0])
                progress.advance(len(some))
            file.flush()
            os.fsync(file.fileno())
        seconds = time.perf_counter() - began
        files.write_json(folder / ABOUT, about | {"made_of": made_of, "seconds": seconds})
    except (OSError, files.Stop) as error:
        free = shutil.disk_usage(folder.parent).free
        shutil.rmtree(folder, ignore_errors=True)
        if files.is_full(error):
            _no_room(folder, about.get("bytes", 0), free)
        raise


def _encode(encoder: Encoder, content: Content, items: np.ndarray) -> tuple[Tensor, bool]:
    """Run the frozen part on [n] items: [rows, ...], without padding, and whether they are ragged.

    Raises:
        files.Stop: the device's memory is too small.
    """
    where = encoder.device
    fewer = max(1, len(items) // 2)
    without = f"machine.prefix_cache to 'off' and machine.micro_batch_items to {fewer}"
    with device.autocast(where), device.enough_memory(where, len(items), without):
        made = encoder.prefix(content.batch(items))
    hidden = made[HIDDEN].to(_dtype(encoder, where))  # [n, ...], of texts [n, T, ...]
    return (hidden[made[MASK].bool()], True) if MASK in made else (hidden, False)


def _write(file: BinaryIO, rows: Tensor) -> None:
    """Write rows' bytes; not by `tofile`, which does not say that it failed for want of room."""
    file.write(rows.contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data)


def _rows(content: Content, items: np.ndarray, is_ragged: bool) -> list[int]:
    """Count the rows of each of [n] items: a text's are its tokens, a cover has one."""
    lengths: list[int] = (content.lengths[items] if is_ragged else np.ones_like(items)).tolist()
    return lengths


def _dtype(encoder: Encoder, where: torch.device) -> torch.dtype:
    """Give the precision activations are kept in: the device's, or the encoder's if wider.

    Whole vectors, where nothing trains, are kept as `embed` keeps them.
    """
    keeps_own = encoder.dtype == torch.float64 or encoder.is_frozen
    return encoder.dtype if keeps_own else device.precision(where)


def _about(folder: Path) -> dict[str, Any] | None:
    """Read what is said of kept activations; nothing where they were not written to their end."""
    try:
        found = files.read_json(folder / ABOUT)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.keys() >= SAID else None


def _is_whole(folder: Path) -> bool:
    """Tell whether activations were kept to their end; warn where they are cut off."""
    if not folder.is_dir():
        return False
    about = _about(folder)
    found = (folder / DATA).stat().st_size if (folder / DATA).is_file() else 0
    if about is not None and found == about["bytes"]:
        return True
    of = "" if about is None else f" of {about['bytes']:,}"
    sys.stderr.write(
        f"prefix: {folder / DATA} is cut off, it has {found:,}{of} bytes; it is made anew\n"
    )
    return False


def _drop(folder: Path, made_of: Mapping[str, object]) -> None:
    """Remove activations that are none of the present encoder and contents.

    Not while somebody fills or opens them; who has opened them goes on reading.
    """
    about = _about(folder)
    if not scratch.drop(folder):
        return
    if about is None:
        sys.stderr.write(f"prefix: {folder} was cut off; it is dropped\n")
        return
    was = about["made_of"]
    differing = ", ".join(name for name in made_of if was.get(name) != made_of[name]) or "code"
    sys.stderr.write(f"prefix: {folder} was made of other {differing}; it is dropped\n")


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        _no_room(folder, needed, free)


def _no_room(folder: Path, needed: int, free: int) -> NoReturn:
    raise files.Stop(
        f"the encoder's kept activations need {needed:,} bytes in {folder.parent}, where {free:,} "
        "are free. Make room, or set machine.prefix_cache to 'off' in params.yaml: training is "
        "the same and takes longer."
    )
