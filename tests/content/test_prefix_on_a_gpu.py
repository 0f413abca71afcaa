"""Encoders of every family, divided, on a GPU that is not there: devices and dtypes."""

import pytest
import torch

from pipeline.content import device, lora, prefix
from pipeline.content.blocks import HIDDEN
from tests.content.families import FAMILIES, ITEMS, made
from tests.fake_gpu import *  # noqa: F403  # the fixture
from tests.fake_gpu import GPU

ADAPTERS = lora.Lora(rank=2, alpha=4.0, dropout=0.1, layers=1)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("trains", ["nothing", "layers", "adapters"])
def test_content_from_the_cpu_is_encoded_on_the_gpu_at_once_and_from_kept_activations(
    family, trains, pack, request, gpu
):
    encoder, content = made(family, pack, request)
    encoder.float().unfreeze(1 if trains == "layers" else 0)
    if trains == "adapters":
        lora.adapt(encoder, ADAPTERS, seed=0)
    batch = content.batch(ITEMS[content.present[ITEMS]])
    with gpu, device.autocast(GPU):
        encoder = encoder.to(GPU).train()
        whole, state = encoder(batch), encoder.prefix(batch)
        assert state[HIDDEN].device == GPU
        # As they are kept: whole vectors in the encoder's own precision, activations in the GPU's.
        dtype = torch.float32 if trains == "nothing" else torch.bfloat16
        ours = encoder({**state, HIDDEN: state[HIDDEN].to(dtype)})
    for vectors in (whole, ours):
        assert vectors.device == GPU and vectors.shape == (len(vectors), encoder.width)


def test_activations_are_filled_by_the_gpu_in_bfloat16_and_read_from_where_they_are(
    pack, request, gpu, tmp_path, monkeypatch
):
    encoder, content = made("open_clip ViT", pack, request)
    encoder.float().unfreeze(1)
    monkeypatch.setattr(device, "has_room", lambda where, size: where == GPU)
    items = ITEMS[content.present[ITEMS]]
    with gpu, device.autocast(GPU):
        kept = prefix.keep(encoder, content, tmp_path, GPU, "required")
        batch = kept.batch(items)
        vectors = encoder(batch)
    assert (batch[HIDDEN].device, batch[HIDDEN].dtype) == (GPU, torch.bfloat16)
    assert kept.bytes == 2 * batch[HIDDEN][0].numel() * content.present.sum()
    assert vectors.device == GPU and vectors.shape == (len(items), encoder.width)
