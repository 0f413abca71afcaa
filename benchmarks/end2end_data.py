"""What both sides train on: H&M's week of purchases, and a source with the lengths of Bili_2M.

Each is laid out as the stages leave a domain. Embeddings are random: nothing that is timed depends
on their values.
"""

import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import timm
import torch
from ruamel.yaml import YAML
from transformers import BertConfig, BertModel

from benchmarks import measure
from pipeline.content import encoders, image, specification, store, text, timm_images
from pipeline.data import covers, lists, prepare, readers, sequences, split, tables
from pipeline.data.sequences import Lists
from pipeline.training import batches
from pipeline.training.negatives import Negatives

ROOT = Path(__file__).parents[1]
PRESET = YAML(typ="safe").load(ROOT / "presets" / "films-fashion.yaml")
UNPACKED = ROOT / ".data" / "films-fashion"
UNPACK = ROOT.parent / "shared" / "data" / "unpack.sh"
SEED = 0
STEPS = 24  # the batches that are timed, over and over

# The source, after the statistics that NineRec publishes of Bili_2M.
SOURCE_USERS, SOURCE_ITEMS = 2_000_000, 144_146
DRAWN_USERS = 50_000  # of them; a step reads 64
EXTRA = 7.25  # items of a history over the 5 that it has at least, on average: 12.25 actions a user
SKEW = 0.8  # the item of rank r is drawn with r^-0.8
TITLE = (23.9, 7.0, 5, 30)  # tokens: mean with both marks, standard deviation, least, most
PICTURES = 256  # random ones, shared by the source's items


class Scale(NamedTuple):
    """How large the encoders are, and the model above them."""

    width: int  # D
    pixels: int  # of a cover's side


SCALES = {  # of small-cls and base, an encoder's vector is that of its first token
    "small": Scale(64, 128),
    "small-cls": Scale(64, 128),
    "base": Scale(1024, 224),
}
ENCODERS = {  # by scale and modality, as `text_encoder` and `image_encoder` make them
    "small": {"text": "all-MiniLM-L6-v2", "image": "MobileNetV2"},
    "small-cls": {"text": "all-MiniLM-L6-v2, pooled by [CLS]", "image": "ViT-Ti/16"},
    "base": {"text": "BERT-base", "image": "ViT-B/32"},
}


class Place(NamedTuple):
    """Where a domain lies."""

    name: str  # hm or source
    folder: Path  # with prepared, covers, embeddings-CONTENT
    users: int  # that learn, of the whole domain
    items: int  # in its catalogue
    catalogue: str  # protocol.catalogue


def make(name: str, folder: Path, scale: str, users: int, texts: Path) -> Place | None:
    """Lay a domain out.

    Args:
        name: hm or source.
        folder: where to.
        scale: of SCALES.
        users: a step, whose items the source has titles and covers for.
        texts: a text encoder's folder, whose words the source's titles are made of.

    Returns:
        The domain; none where its data are not to be had, which is said.
    """
    pixels = SCALES[scale].pixels
    return _hm(folder, pixels) if name == "hm" else _source(folder, pixels, users, texts)


def _hm(folder: Path, pixels: int) -> Place | None:
    raw = UNPACKED / "Downstream_datasets" / "HM"
    if not raw.is_dir() and UNPACK.is_file():
        subprocess.run(["bash", str(UNPACK), str(UNPACKED)], check=True)
    if not raw.is_dir():
        measure.say(f"hm is left out: {raw} is not there, and {UNPACK} neither")
        return None
    section = prepare.Prepare.model_validate(PRESET["prepare"])
    protocol = split.Protocol.model_validate(PRESET["protocol"])
    read = readers.read("ninerec", raw, "en", section.table)
    made, _ = prepare.prepare("hm", read, section, protocol)
    tables.save(folder / "prepared", made)
    listed = covers.listing(raw / "HM_cover")
    names = covers.names(made.items, listed)
    covers.pack(raw / "HM_cover", names, listed, pixels, folder / "covers")
    learners = int((sequences.lengths(made.sequences) > split.HELD_OUT + 1).sum())
    return Place("hm", folder, learners, len(made.items), "window")


def _source(folder: Path, pixels: int, users: int, texts: Path) -> Place:
    rng = np.random.default_rng(SEED)
    protocol = split.Protocol.model_validate({**PRESET["protocol"], "catalogue": "all"})
    drawn = histories(rng)
    divided = split.split(drawn, SOURCE_ITEMS, protocol)
    one = Negatives.model_validate(PRESET["training"]["negatives"])
    feed = batches.Batches(divided.train, divided.candidates, users, "bce", one, SEED)
    wanted = np.unique(np.concatenate([feed.batch(0, step).items for step in range(STEPS)]))
    items = {"id": [f"v{n}" for n in range(SOURCE_ITEMS)], "text": _titles(rng, wanted, texts)}
    ends = drawn.offsets[1:]
    held_out = {
        "id": [f"u{n}" for n in range(len(ends))],
        "valid": drawn.items[ends - 2],
        "test": drawn.items[ends - 1],
    }
    made = tables.Prepared(
        pl.DataFrame(items | {"cover": [None] * SOURCE_ITEMS}, tables.ITEMS),
        pl.DataFrame(held_out, tables.USERS),
        drawn,
    )
    tables.save(folder / "prepared", made)
    (folder / "covers").mkdir()
    shape = (PICTURES, pixels, pixels, 3)
    np.save(folder / "covers" / "pixels.npy", rng.integers(0, 256, shape, np.uint8))
    rows = np.full(SOURCE_ITEMS + 1, -1, np.int32)
    rows[wanted] = wanted % PICTURES
    np.save(folder / "covers" / "rows.npy", rows)
    return Place("source", folder, SOURCE_USERS, SOURCE_ITEMS, "all")


def histories(rng: np.random.Generator) -> Lists:
    """Draw the source's histories: geometric lengths from 5 on, popular items oftener."""
    lengths = 5 + rng.geometric(1 / (1 + EXTRA), DRAWN_USERS) - 1
    owners = np.repeat(np.arange(DRAWN_USERS), lengths)
    share = np.arange(1, SOURCE_ITEMS + 1) ** -SKEW
    share /= share.sum()
    items = rng.choice(SOURCE_ITEMS, len(owners), p=share) + 1
    while True:
        pairs = owners * (SOURCE_ITEMS + 1) + items
        _, kept = np.unique(pairs, return_index=True)
        again = np.setdiff1d(np.arange(len(pairs)), kept)
        if not len(again):
            break
        items[again] = rng.choice(SOURCE_ITEMS, len(again), p=share) + 1
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Lists(items.astype(np.int32), offsets)


def _titles(rng: np.random.Generator, wanted: np.ndarray, texts: Path) -> list[str | None]:
    """Make titles of words that are one token each, for the items that are read; none elsewhere."""
    encoder = encoders.load(texts)
    assert isinstance(encoder, text.SentenceEncoder)
    words = sorted(w for w in encoder.tokenizer.get_vocab() if w.isascii() and w.isalpha())
    mean, sd, least, most = TITLE
    tokens = rng.normal(mean, sd, len(wanted)).round().clip(least, most).astype(int)
    titles: list[str | None] = [None] * SOURCE_ITEMS
    for item, n in zip(wanted, tokens, strict=True):
        titles[item - 1] = " ".join(rng.choice(words, n - 2))
    return titles


def embeddings(place: Place, content: str, found: Path) -> None:
    """Write random embeddings of a domain, as wide as the encoders in a folder make them.

    Args:
        place: the domain, whose folder gets `embeddings-CONTENT`.
        content: of lists.MODALITIES.
        found: a folder with an encoder a modality.
    """
    out = place.folder / f"embeddings-{content}"
    if out.exists():
        return
    parts = {m: out / m if content == "both" else out for m in lists.MODALITIES[content]}
    rng = np.random.default_rng(SEED)
    for modality, part in parts.items():
        encoder = encoders.load(found / modality)
        vectors = rng.standard_normal((place.items + 1, encoder.width), np.float32)
        present = np.arange(place.items + 1) > 0
        about = {"modality": modality, "weights": encoders.weights(encoder)}
        store.save(part, vectors, present, about)
    if content == "both":
        store.join(parts, out)


def text_encoder(folder: Path, scale: str, tokens: int | None) -> Path:
    """Keep a text encoder: MiniLM, as published or with CLS, or a random BERT-base with CLS.

    Args:
        folder: where to.
        scale: of SCALES.
        tokens: that texts are cut to; none for the encoder's own limit.
    """
    name = "sentence-transformers/all-MiniLM-L6-v2"
    spec = specification.Spec(library="sentence-transformers", model=name, max_tokens=tokens)
    if scale == "small-cls":
        spec = spec.model_copy(update={"pooling": "cls"})
    if scale == "base":
        torch.manual_seed(SEED)
        small = text.SentenceEncoder.fetch(spec)
        plain = folder.with_name("bert")
        BertModel(BertConfig()).save_pretrained(plain)
        small.tokenizer.save_pretrained(plain)
        spec = spec.model_copy(update={"model": str(plain), "pooling": "cls"})
    encoders.fetch(spec, folder)
    return folder


def image_encoder(folder: Path, scale: str) -> Path:
    """Keep an image encoder: the preset's MobileNetV2, or a random ViT.

    Where the preset's weights are not there, its weights are random: the cost is the same.
    """
    spec = specification.Spec.model_validate(PRESET["encoders"]["image"])
    weights = ROOT / str(spec.weights)
    torch.manual_seed(SEED)
    if scale == "small" and weights.is_file():
        encoders.fetch(spec.model_copy(update={"weights": str(weights)}), folder)
        return folder
    if scale == "small":
        measure.say(f"{weights} is not there: the image encoder's weights are random")
        net = timm.create_model(spec.model, num_classes=0, pad_type=spec.options["pad_type"])
    else:
        name = "vit_base_patch32_224" if scale == "base" else "vit_tiny_patch16_224"
        spec = specification.Spec(library="timm", model=name)
        net = timm.create_model(name, num_classes=0, img_size=SCALES[scale].pixels)
    spec = image.resolved(spec, timm_images.preprocess_of(net))
    encoders.save(timm_images.TimmEncoder(net, spec), folder)
    return folder
