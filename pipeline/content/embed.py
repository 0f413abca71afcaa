"""Embed every item of a domain: like lengths together, shard by shard, so that a kill costs one."""

import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from pipeline.content import blocks, device, encoders, feed, processes, store
from pipeline.content.blocks import Content
from pipeline.content.image import ImageContent
from pipeline.content.spool import Spool
from pipeline.content.text import TextContent
from pipeline.data import covers, files, scratch, tables
from pipeline.data.progress import Progress
from pipeline.machine import Machine


class Job(NamedTuple):
    """One modality to embed."""

    encoder: blocks.Encoder
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

    Where several processes do it, each encodes its share of the shards, and the first one writes.

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
    with processes.group(where):
        # Of the first one alone: it hashes all contents.
        described = [passport(job, where) if processes.is_first() else {} for job in jobs.values()]
        code = scratch.state([], [Path(__file__).parent])
        own = scratch.key([described, machine.embed_batch], code)
        key = processes.first_says(own)
        folder = scratch_root / key
        with processes.alone(folder) as waited:
            if processes.first_says(waited and scratch.is_done(key, out, cost)):
                return
            seconds = 0.0
            with processes.out_folder(out) as part:
                for (modality, job), about in zip(jobs.items(), described, strict=True):
                    to = part / modality if is_joint else part
                    shards = folder / modality
                    seconds += embed(job, about, to, shards, where, machine.embed_batch)
                if is_joint and processes.is_first():
                    store.join({modality: part / modality for modality in jobs}, part)
            if processes.is_first():
                files.write_json(cost, {"key": key, **spent(jobs, seconds, where)})
                scratch.clear(folder)


def spent(jobs: Mapping[str, Job], seconds: float, where: torch.device) -> dict[str, object]:
    """Say what it cost: so many seconds of all processes side by side; memory is of this one."""
    items = sum(int(job.content.present.sum()) for job in jobs.values())
    return {
        "seconds": seconds,
        "items_per_second": items / seconds,
        "peak_memory_bytes": device.peak_memory(where),
        "device": device.name(where),
        "parameters": sum(p.numel() for j in jobs.values() for p in j.encoder.parameters()),
    }


def content(encoder: blocks.Encoder, prepared: Path, packed: Path | None) -> Content:
    """Open what an encoder reads of a domain.

    Args:
        encoder: whose modality decides.
        prepared: the prepared domain.
        packed: its packed covers, for images.

    Raises:
        files.Stop: the covers are not given, or of another item table.
    """
    texts = tables.load_items(prepared)["text"]
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
    own, read = pack.pixels.shape[1], encoder.spec.preprocess
    if read is not None and own < read.pixels and processes.is_first():
        sys.stderr.write(
            f"warning: {packed} has covers of {own} pixels a side, which are enlarged to the "
            f"{read.pixels} that the image encoder reads; set covers.pixels to {read.pixels}\n"
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
        out: where the first process writes vectors and passport.
        shards: a folder of this job alone: what an earlier run left there counts as done.
        where: the device.
        batch: items a forward pass.

    Returns:
        Seconds, those of killed runs up to their last shard included; 0 for a process that writes
        nothing.

    Raises:
        files.Stop: no item has content, or a vector is not finite.
    """
    items = order(job.content)
    if not len(items):
        modality = job.encoder.modality
        has = {"text": "a text", "image": "a cover that can be read"}[modality]
        raise files.Stop(
            f"not one item of this domain has {has}: bring them, or take the domain out of "
            f"domains.{modality} and domains.both in params.yaml"
        )
    spool = Spool(shards, items, batch)
    encode(job, spool, where)
    if not processes.is_first():
        return 0.0
    present = job.content.present
    store.save(out, spool.whole(len(present), job.encoder.width), present, about)
    return spool.seconds()


def encode(job: Job, spool: Spool, where: torch.device) -> None:
    """Encode the shards that are missing, each by one process; return when all of them are there.

    While the model computes, one thread prepares the next batches, and another writes the shard
    before.

    Raises:
        files.Stop: a vector is not finite, or the device's memory is too small.
    """
    missing, before = processes.first_says((spool.missing(), spool.seconds()))
    own = missing[processes.rank() :: processes.size()]
    progress = _progress(job.encoder.modality, spool, missing)
    encoder = job.encoder.to(where).eval()
    began = time.perf_counter()

    def finish(number: int, vectors: feed.Vectors) -> None:
        found = vectors.arrived()
        _check(found, spool.shards[number], encoder.modality)
        spool.write(number, found, before + time.perf_counter() - began)

    groups = [group for number in own for group in spool.batches(number)]
    largest = max(map(len, groups), default=0)
    fed = feed.batches(job.content, groups, where)
    with ThreadPoolExecutor(1) as writer, contextlib.closing(fed):
        writing: Future[None] | None = None
        for number in own:
            vectors = feed.Vectors(len(spool.shards[number]), encoder.width, where)
            enough = device.enough_memory(where, largest)
            with torch.inference_mode(), device.autocast(where), enough:
                for group in spool.batches(number):
                    vectors.put(encoder(next(fed)))
                    progress(len(group))
            if writing is not None:
                writing.result()  # so that no more than one shard waits to be written
            writing = writer.submit(finish, number, vectors)
        if writing is not None:
            writing.result()
    processes.wait()


def order(content: Content) -> np.ndarray:
    """Sort the items that have content, longest first, so that a batch pads next to nothing."""
    items = np.flatnonzero(content.present)
    return items[np.argsort(-content.lengths[items], kind="stable")]


def _progress(modality: str, spool: Spool, missing: list[int]) -> Callable[[int], None]:
    """Give what the first process says its progress by, the others being about as far."""
    total, size = len(spool.items), processes.size()
    known = total - sum(len(spool.shards[number]) for number in missing)
    if known and processes.is_first():
        sys.stderr.write(f"embed {modality}: {known:,} items are done already, going on\n")
    progress = Progress(f"embed {modality}", total, known)
    return lambda n: progress.advance(min(size * n, total - progress.done))


def _check(vectors: np.ndarray, items: np.ndarray, modality: str) -> None:
    bad = items[~np.isfinite(vectors).all(axis=1)]
    if len(bad):
        raise files.Stop(
            f"the {modality} encoder gives vectors that are not finite, for {len(bad)} items, such "
            f"as item {bad[0]}. Its weights are broken, or too large for this precision."
        )
