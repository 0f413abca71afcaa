"""The demo's image encoder: a small open_clip model trained on a domain's (cover, title) pairs."""

import contextlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import open_clip
import torch
from pydantic import PositiveInt
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.data import covers, decoding, files, ninerec
from pipeline.data.progress import Progress
from pipeline.params import Section, Seed

WORDS = 12  # the text tower's context: a title's tokens, its start and its end
MEAN = SD = (0.5, 0.5, 0.5)


class DemoEncoder(Section):
    """The small CLIP model and how it is trained."""

    seed: Seed
    pixels: PositiveInt  # of a side, a multiple of `patch`
    patch: PositiveInt  # pixels
    width: PositiveInt  # of both towers, a multiple of 32
    layers: PositiveInt  # of each tower
    epochs: PositiveInt
    batch: PositiveInt  # pairs
    learning_rate: float
    weight_decay: float


class Pairs(NamedTuple):
    """Covers with their titles."""

    pixels: Tensor  # [n, 3, size, size] float32, standardised
    tokens: Tensor  # [n, WORDS] int64


def configuration(demo: DemoEncoder) -> dict[str, Any]:
    """Give the model in open_clip's own words: the content of open_clip_config.json."""
    tower = {"width": demo.width, "layers": demo.layers}
    return {
        "model_cfg": {
            "embed_dim": demo.width,
            "vision_cfg": {
                **tower,
                "image_size": demo.pixels,
                "patch_size": demo.patch,
                "head_width": 32,
            },
            "text_cfg": {
                **tower,
                "context_length": WORDS,
                "vocab_size": 49408,  # of open_clip's SimpleTokenizer
                "heads": demo.width // 32,
            },
        },
        "preprocess_cfg": {
            "size": demo.pixels,
            "mean": list(MEAN),
            "std": list(SD),
            "interpolation": "bicubic",
            "resize_mode": "squash",
        },
    }


def read_pairs(folder: Path, size: int) -> Pairs:
    """Read the items of a raw NineRec domain that have both a title and a readable cover.

    Raises:
        Stop: the folder has no item table, no covers, or no such item.
    """
    items, _ = ninerec.read_items(ninerec.files_of(folder).items, "en")
    shots = folder / f"{folder.name}_cover"
    named = covers.names(items, covers.listing(shots))
    pixels, titles = [], []
    for title, name in zip(items["text"], named, strict=True):
        if title and name:
            with contextlib.suppress(decoding.CoverError):
                pixels.append(decoding.read(shots / name, size))
                titles.append(title)
    if not titles:
        raise files.Stop(f"{folder}: no item has both a title and a cover to learn from")
    shares = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    mean, sd = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, SD))
    tokens = open_clip.SimpleTokenizer(context_length=WORDS)(titles)
    return Pairs((shares - mean) / sd, tokens)


def train(demo: DemoEncoder, pairs: Pairs) -> nn.Module:
    """Train the model with open_clip's contrastive loss, with AdamW and a cosine to zero.

    Raises:
        Stop: the loss is no number.
    """
    torch.manual_seed(demo.seed)
    generator = torch.Generator().manual_seed(demo.seed)
    model = open_clip.CLIP(**configuration(demo)["model_cfg"])
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=demo.learning_rate, weight_decay=demo.weight_decay
    )
    n = len(pairs.tokens)
    steps = demo.epochs * -(-n // demo.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    contrast = open_clip.ClipLoss()
    progress = Progress("demo_encoder, pairs", demo.epochs * n)
    model.train()
    for _ in range(demo.epochs):
        order = torch.randperm(n, generator=generator)
        for start in range(0, n, demo.batch):
            rows = order[start : start + demo.batch]
            loss = contrast(*model(pairs.pixels[rows], pairs.tokens[rows]))
            if not torch.isfinite(loss):
                raise files.Stop(
                    f"demo_encoder: the loss is {loss.item()}; lower demo_encoder.learning_rate "
                    f"(now {demo.learning_rate:g}) and run again"
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, np.log(100))  # as CLIP's authors do
            progress.advance(len(rows))
    trained: nn.Module = model.eval()
    return trained


def save(model: nn.Module, demo: DemoEncoder, out: Path) -> None:
    """Write a folder that open_clip loads as `local-dir:<out>`."""
    with files.atomic_folder(out) as folder:
        files.write_text(
            folder / "open_clip_config.json", json.dumps(configuration(demo), indent=2) + "\n"
        )
        weights = {name: value.contiguous() for name, value in model.state_dict().items()}
        save_file(weights, folder / "open_clip_model.safetensors")
