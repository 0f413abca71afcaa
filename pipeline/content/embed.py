"""Embed every item of a domain: like lengths together, shard by shard, so that a kill costs one."""

import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch

from pipeline.content import device, encoders, store
from pipeline.content.blocks import Content
from pipeline.content.image import ImageContent
from pipeline.content.progress import Progress
from pipeline.content.text import TextContent
from pipeline.data import covers, files, scratch
from pipeline.machine import Machine

SHARD = 2048  # items, about; a shard is whole batches


class Job(NamedTuple):
    """One modality to embed."""

    encoder: encoders.Encoder
    content: Content


def run(
    jobs: Mapping[str, Job],
    is_joint: bool,
    out: Path,
    cost: Path,
    scratch_root: Path,
    machine: Machine,
) -> None:
    """Embed one or several modalities into a folder; killed, it goes on at its last shard.

    Args:
        jobs: by modality.
        is_joint: whether `out` gets a folder a modality and a joint passport, or is the one itself.
        out: where to write.
        cost: where to write what it cost, JSON.
        scratch_root: where shards live until all is done.
        machine: device, threads and batch.

    Raises:
        files.Stop: no item has such content, or a vector is not finite.
    """
    device.set_threads(machine.threads)
    where = device.pick(machine.device)
    described = [passport(job, where) for job in jobs.values()]
    key = scratch.key([described, machine.embed_batch], [], [Path(__file__).parent])
    folder = scratch_root / key
    with scratch.locked(folder) as waited:
        if waited and out.exists() and cost.exists() and files.read_json(cost)["key"] == key:
            return
        seconds = 0.0
        with files.atomic_folder(out) as part:
            for (modality, job), about in zip(jobs.items(), described, strict=True):
                to = part / modality if is_joint else part
                seconds += embed(job, about, to, folder / modality, where, machine.embed_batch)
            if is_joint:
                store.join({modality: part / modality for modality in jobs}, part)
        items = sum(int(job.content.present.sum()) for job in jobs.values())
        spent = {
            "key": key,
            "seconds": seconds,
            "items_per_second": items / seconds,
            "peak_memory_bytes": device.peak_memory(where),
            "device": device.name(where),
            "parameters": sum(p.numel() for j in jobs.values() for p in j.encoder.parameters()),
        }
        files.write_json(cost, spent)
        scratch.clear(folder)


def content(encoder: encoders.Encoder, prepared: Path, packed: Path | None) -> Content:
    """Open what an encoder reads of a domain.

    Args:
        encoder: whose modality decides.
        prepared: the prepared domain.
        packed: its packed covers, for images.

    Raises:
        files.Stop: the covers are not given, or of another item table.
    """
    texts = pl.read_parquet(prepared / "items.parquet")["text"]
    if encoder.modality == "text":
        return TextContent(texts.to_list(), encoder)
    if packed is None:
        raise files.Stop(f"images of {prepared} need its packed covers: give --covers.")
    pack = covers.load(packed)
    if len(pack.rows) != len(texts) + 1:
        raise files.Stop(
            f"{packed} holds covers of {len(pack.rows) - 1} items, but {prepared} has {len(texts)}."
            " Run the stage covers again."
        )
    return ImageContent(pack, encoder)


def passport(job: Job, where: torch.device) -> dict[str, object]:
    """Say all that the vectors depend on: encoder, weights, precision and contents."""
    return {
        "modality": job.encoder.modality,
        "encoder": job.encoder.specification,
        "weights": encoders.weights(job.encoder),
        "dtype": str(device.precision(where)).removeprefix("torch."),
        "inputs": job.content.digest(),
    }


def embed(
    job: Job,
    about: Mapping[str, object],
    out: Path,
    shards: Path,
    where: torch.device,
    batch: int,
) -> float:
    """Embed all items that have content, longest first.

    Args:
        job: encoder and content.
        about: the passport's part that describes them.
        out: where to write vectors and passport.
        shards: a folder of this job alone: what an earlier run left there counts as done.
        where: the device.
        batch: items a forward pass.

    Returns:
        Seconds, those of killed runs up to their last shard included.

    Raises:
        files.Stop: no item has content, or a vector is not finite.
    """
    items = order(job.content)
    modality = job.encoder.modality
    if not len(items):
        raise files.Stop(f"no item has {modality} content: {out} can't be made. Mend the items.")
    encoder = job.encoder.to(where).eval()
    size = batch * max(1, SHARD // batch)
    parts = [items[start : start + size] for start in range(0, len(items), size)]
    paths = [shards / f"{number:05d}.npy" for number in range(len(parts))]
    is_done = [_is_whole(path, len(part)) for path, part in zip(paths, parts, strict=True)]
    shards.mkdir(parents=True, exist_ok=True)
    known = sum(len(part) for part, done in zip(parts, is_done, strict=True) if done)
    if known:
        sys.stderr.write(f"embed {modality}: {known:,} items are done already, going on\n")
    progress = Progress(f"embed {modality}", len(items), known)
    spent = shards / "seconds.json"
    seconds: float = files.read_json(spent) if spent.exists() else 0.0
    for path, part, done in zip(paths, parts, is_done, strict=True):
        if not done:
            began = time.perf_counter()
            vectors = np.concatenate(list(_encode(encoder, job.content, part, batch, progress)))
            _check(vectors, part, modality)
            seconds += time.perf_counter() - began
            files.write_json(spent, seconds)  # before the shard: with all shards, none is missing
            _write(path, vectors)
    whole = np.zeros((len(job.content.present), encoder.width), dtype=np.float32)
    for path, part in zip(paths, parts, strict=True):
        whole[part] = np.load(path)
    store.save(out, whole, job.content.present, about)
    return seconds


def order(content: Content) -> np.ndarray:
    """Sort the items that have content, longest first, so that a batch pads next to nothing."""
    items = np.flatnonzero(content.present)
    return items[np.argsort(-content.lengths[items], kind="stable")]


def _encode(
    encoder: encoders.Encoder, content: Content, items: np.ndarray, batch: int, progress: Progress
) -> Iterator[np.ndarray]:
    """Encode items batch by batch, each [n, C] float32."""
    with torch.inference_mode(), device.autocast(encoder.device):
        for start in range(0, len(items), batch):
            some = items[start : start + batch]
            yield encoder(content.batch(some)).float().cpu().numpy()
            progress.advance(len(some))


def _check(vectors: np.ndarray, items: np.ndarray, modality: str) -> None:
    bad = items[~np.isfinite(vectors).all(axis=1)]
    if len(bad):
        raise files.Stop(
            f"the {modality} encoder gives vectors that are not finite, for {len(bad)} items, such "
            f"as item {bad[0]}. Its weights are broken, or too large for this precision."
        )


def _write(path: Path, vectors: np.ndarray) -> None:
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.save(file, vectors)
    part.replace(path)


def _is_whole(path: Path, n: int) -> bool:
    try:
        return len(np.load(path, mmap_mode="r")) == n
    except (OSError, ValueError):
        return False
