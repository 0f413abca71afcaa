"""Fixtures: tiny public encoders in folders, and contents that they read."""

import json
import shutil

import numpy as np
import pytest
import torch

from pipeline.content import encoders, specification, store
from pipeline.content.image import ImageContent
from pipeline.content.text import TextContent
from tests.content.conftest import TEXTS, bert, clip, pack

__all__ = ["bert", "clip", "pack", "public", "world"]


@pytest.fixture(scope="session")
def public(bert, clip, tmp_path_factory):
    """A folder with a text and an image encoder, neither with dropout."""
    folder = tmp_path_factory.mktemp("public")
    calm = folder / "calm"
    shutil.copytree(bert, calm)
    config = json.loads((calm / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (calm / "config.json").write_text(json.dumps(config))
    encoders.fetch(specification.resolve(str(calm), "text"), folder / "text")
    encoders.fetch(specification.resolve(str(clip), "image"), folder / "image")
    return folder


class World:
    """Seven items: 3 says nothing, 5 has no text, 6 has no cover; all in float64."""

    def __init__(self, public, pack):
        self.encoders = {m: encoders.load(public / m).double() for m in ("text", "image")}
        self.contents = {
            "text": TextContent(TEXTS, self.encoders["text"]),
            "image": ImageContent(pack, self.encoders["image"]),
        }
        self.embedded = {m: self.embed(m) for m in self.encoders}

    def embed(self, modality):
        content, encoder = self.contents[modality], self.encoders[modality].eval()
        vectors = np.zeros((len(content.present), encoder.width))
        items = np.flatnonzero(content.present)
        with torch.no_grad():
            vectors[items] = encoder(content.batch(items)).numpy()
        measured = store.statistics(vectors, content.present)
        return store.Embedded(vectors, content.present, *measured)


@pytest.fixture
def world(public, pack):
    return World(public, pack)
