"""Embedding against the bare encoder: from contents to vectors on disk, at which share of its rate.

python -m benchmarks.embed                           4,096 items of each kind, on a GPU 131,072
python -m benchmarks.embed --items 512 --repeats 1   a look at it
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import polars as pl
import torch
import typer

from benchmarks import measure
from pipeline.content import blocks, device, embed, encoders, specification, store
from pipeline.content.specification import Preprocess, Spec
from pipeline.content.timm_images import TimmEncoder
from pipeline.machine import Machine
from stages.embed import Embed

NAME = "embed"
TEXT, IMAGE = "sentence-transformers/all-MiniLM-L6-v2", "mobilenetv2_100"
TOKENS = {"long": 47, "short": 13}  # a text, on average, two marks included; 47 as H&M's have
SPREAD = 0.15  # standard deviation of their lengths, of the average
PIXELS = 128  # of a cover's side, and of what the encoder reads
ITEMS = {"cpu": 4096, "cuda": 131_072}
BLOCK = 512  # covers drawn at random; the rest repeats them

HEAD = ["content", "bare, items/s", "embed, items/s", "embed / bare", "stage / bare"]
ABOUT = """
`bare`: the encoder's forward pass alone, over batches that are ready in the device's memory.
`embed`: `embed.run` in one process, from content that is open to a finished folder: hashing weights
and contents, batches and their way to the device, the same forward pass, shards on disk, all
vectors with their statistics and passport. `stage`: also opening the content, which for texts is
tokenising. Equal: encoder, items, batches and their order, precision, threads; the largest
difference between vectors is given. Not equal: `bare` keeps no vectors. Texts are random words of
the encoder's vocabulary; covers are noise, on disk; MobileNetV2 has random weights. Not in it:
starting Python, loading the encoder.
"""


class Case(NamedTuple):
    """One kind of content, and what encodes it."""

    name: str
    encoder: blocks.Encoder
    prepared: Path
    packed: Path | None

    def open(self) -> embed.Job:
        """Open the content, as the stage does."""
        return embed.Job(self.encoder, embed.content(self.encoder, self.prepared, self.packed))


def main(
    items: Annotated[int, typer.Option(help="of each kind; 0: by device")] = 0,
    repeats: Annotated[int, typer.Option(help=measure.REPEATS)] = 0,
    batch: Annotated[int, typer.Option(help="items a pass; 0: machine.embed_batch")] = 0,
) -> None:
    """Compare for long and short texts and for covers, on the device of params.yaml."""
    settings = Embed.load().machine.model_copy(update={"processes": 1})
    if batch:
        settings = settings.model_copy(update={"embed_batch": batch})
    device.set_threads(settings.threads)
    where = device.pick(settings.device)
    n = items or ITEMS[where.type]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = encoders.fetch(specification.resolve(TEXT, "text"), folder / "encoder")
        made = [texts(folder / kind, text, n, mean) for kind, mean in TOKENS.items()]
        for case in [*made, covers(folder / "covers", n)]:
            measure.say(f"{case.name}: {n:,} items on {device.name(where)}")
            found[case.name] = compare(case, settings, where, folder / "out", repeats)
            case.encoder.to("cpu")
    results = {"device": device.name(where), "items": n, "batch": settings.embed_batch, **found}
    measure.write_run(NAME, results, table(found, n, settings.embed_batch))


def texts(prepared: Path, encoder: blocks.Encoder, n: int, mean: int) -> Case:
    """Write a prepared domain of n texts of `mean` tokens on average."""
    rng = np.random.default_rng(0)
    # Whole words of the vocabulary: a token each.
    words = np.array([w for w in sorted(encoder.tokenizer.get_vocab()) if w.isalpha()])
    lengths = np.rint(rng.normal(mean - 2, SPREAD * mean, n)).clip(1).astype(int)
    ends = np.cumsum(lengths)
    drawn = rng.choice(words, int(ends[-1])).tolist()
    said = [" ".join(drawn[end - length : end]) for end, length in zip(ends, lengths, strict=True)]
    write_items(prepared, said)
    return Case(f"text, {mean} tokens (MiniLM)", encoder, prepared, None)


def covers(folder: Path, n: int) -> Case:
    """Write packed covers of n items, and build an image encoder with random weights."""
    import timm

    write_items(folder, ["a text"] * n)
    block = np.random.default_rng(0).integers(0, 256, (BLOCK, PIXELS, PIXELS, 3), dtype=np.uint8)
    shape = (n, PIXELS, PIXELS, 3)
    pixels = np.lib.format.open_memmap(folder / "pixels.npy", "w+", np.uint8, shape)
    for start in range(0, n, BLOCK):
        pixels[start : start + BLOCK] = block[: n - start]
    pixels.flush()
    np.save(folder / "rows.npy", np.arange(-1, n, dtype=np.int32))
    torch.manual_seed(0)
    half = [0.5, 0.5, 0.5]
    how = Preprocess(pixels=PIXELS, mean=half, std=half, interpolation="bilinear")
    spec = Spec(library="timm", model=IMAGE, preprocess=how)
    encoder = TimmEncoder(timm.create_model(IMAGE, num_classes=0), spec).eval()
    return Case(f"covers, {PIXELS} px (MobileNetV2)", encoder, folder, folder)


def write_items(prepared: Path, said: list[str]) -> None:
    """Write what of a prepared domain embedding reads: its items."""
    prepared.mkdir()
    pl.DataFrame({"text": said}).write_parquet(prepared / "items.parquet")


def compare(
    case: Case, settings: Machine, where: torch.device, out: Path, repeats: int
) -> dict[str, Any]:
    """Time the three in turn; say items, seconds a repeat and the largest difference."""
    job = case.open()
    encoder = case.encoder.to(where)
    order, size = embed.order(job.content), settings.embed_batch
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    ready = [
        {name: tensor.to(where) for name, tensor in job.content.batch(group).items()}
        for group in groups
    ]

    def bare() -> None:
        forward(encoder, ready, lambda _: None)

    def whole(job: embed.Job) -> None:
        modality = job.encoder.modality
        with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
            to = (out, Path(scratch) / "cost.json", Path(scratch))
            embed.run({modality: job}, False, *to, settings)

    kept: list[torch.Tensor] = []  # the first pass of both, not timed, warms up and is compared
    forward(encoder, ready, kept.append)
    whole(job)
    stored = store.load(out)[encoder.modality].vectors[order]
    difference = float(np.abs(torch.cat(kept).float().cpu().numpy() - stored).max())
    ways: dict[str, Callable[[], object]] = {
        "bare": bare,
        "embed": lambda: whole(job),
        "stage": lambda: whole(case.open()),
    }
    seconds = measure.side_by_side(ways, repeats, warm=False)
    tokens = int(job.content.lengths.sum()) if encoder.modality == "text" else None
    return {"items": len(order), "tokens": tokens, "difference": difference, "seconds": seconds}


def forward(
    encoder: blocks.Encoder,
    ready: list[dict[str, torch.Tensor]],
    take: Callable[[torch.Tensor], None],
) -> None:
    """Run the encoder over all batches, and wait until it is done."""
    where = encoder.device
    with torch.inference_mode(), device.autocast(where):
        for batch in ready:
            take(encoder(batch))
    if where.type == "cuda":
        torch.cuda.synchronize(where)


def table(found: dict[str, Any], items: int, batch: int) -> str:
    """Lay the comparison out."""
    rows = []
    for name, one in found.items():
        seconds = one["seconds"]
        rates = [
            f"{measure.spread([one['items'] / s for s in seconds[way]]).median:,.0f}"
            for way in ("bare", "embed")
        ]
        shares = [measure.ratio(seconds["bare"], seconds[way]).text() for way in ("embed", "stage")]
        rows.append([name, *rates, *shares])
    worst = max(one["difference"] for one in found.values())
    repeats = len(next(iter(found.values()))["seconds"]["bare"])
    said = (
        f"{items:,} items in batches of {batch}, {repeats} repeats; largest difference {worst:g}."
    )
    return "\n".join([measure.table(HEAD, rows), "", said, ABOUT])


if __name__ == "__main__":
    typer.run(main)
