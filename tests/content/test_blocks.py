"""Which part of an encoder trains, and that the rest stays as it was."""

import numpy as np
import pytest
import timm
import torch

from pipeline.content import blocks, encoders, timm_images
from pipeline.content.image import ImageContent
from pipeline.content.text import TextContent
from pipeline.data import files
from tests.content.conftest import TEXTS


@pytest.mark.parametrize("model", ["bert", "clip"])
def test_chunks_change_neither_vectors_nor_gradients(model, pack, fetch, request, monkeypatch):
    encoder = fetch(str(request.getfixturevalue(model)), "text" if model == "bert" else "image")
    encoder.double().unfreeze(1)
    content = TextContent(TEXTS, encoder) if model == "bert" else ImageContent(pack, encoder)
    batch = content.batch(np.flatnonzero(content.present))

    def pass_(chunk):
        monkeypatch.setattr(blocks, "CHUNK", chunk)
        encoder.zero_grad()
        vectors = encoder(batch)
        (vectors**2 * torch.arange(5)[:, None]).sum().backward()
        return [vectors.detach(), *(p.grad for p in encoder.parameters() if p.grad is not None)]

    for whole, chunked in zip(pass_(100), pass_(2), strict=True):
        torch.testing.assert_close(whole, chunked, rtol=1e-10, atol=1e-12)


def trained(encoder):
    return {name for name, p in encoder.named_parameters() if p.requires_grad}


def named(encoder, *beginnings):
    return {name for name, _ in encoder.named_parameters() if name.startswith(beginnings)}


@pytest.mark.parametrize(
    ("model", "top", "top_two"),
    [
        ("bert", ["model.0.model.encoder.layer.2."], ["model.0.model.encoder.layer.1."]),
        (
            "clip",
            ["net.transformer.resblocks.2.", "net.ln_post.", "net.proj"],
            ["net.transformer.resblocks.1."],
        ),
        ("vit", ["net.blocks.2.", "net.norm."], ["net.blocks.1."]),
        ("efficientnet", ["net.blocks.4.", "net.conv_head", "net.bn2."], ["net.blocks.3."]),
    ],
)
def test_unfreeze_sets_exactly_the_named_blocks(model, top, top_two, fetch, request):
    encoder = fetch(str(request.getfixturevalue(model)), "text" if model == "bert" else "image")
    assert trained(encoder) == set()
    encoder.unfreeze(1)
    assert trained(encoder) == named(encoder, *top) != set()
    encoder.unfreeze(2)
    assert trained(encoder) == named(encoder, *top, *top_two)
    encoder.unfreeze("all")
    assert trained(encoder) == named(encoder, "")
    encoder.unfreeze(0)
    assert trained(encoder) == set()


@pytest.mark.parametrize(
    ("name", "blocks", "above"),
    [
        ("test_resnet", ["layer1", "layer2", "layer3", "layer4"], set()),
        ("test_convnext", [f"stages.{n}" for n in range(4)], {"head.norm"}),
        ("swin_tiny_patch4_window7_224", [f"layers.{n}" for n in range(4)], {"norm"}),
        ("mobilenetv3_small_050", [f"blocks.{n}" for n in range(6)], {"conv_head"}),
    ],
)
def test_the_structure_of_timms_families_is_known(name, blocks, above):
    with torch.device("meta"):
        net = timm.create_model(name, num_classes=0)
    is_below, is_block = timm_images.structure(net)
    assert [n for n, _ in net.named_modules() if is_block(n)] == blocks
    inside = tuple(f"{block}." for block in blocks)
    rest = {n for n, _ in net.named_parameters() if not is_below(n) and not n.startswith(inside)}
    assert {n.rpartition(".")[0] for n in rest} == above


@pytest.mark.parametrize(
    ("name", "size"),
    [("inception_v3", (299, 299)), ("caformer_s18", (224, 224)), ("tiny_vit_5m_224", (224, 224))],
)
def test_a_net_without_a_known_structure_has_its_own_size_and_no_blocks(name, size):
    """It can be frozen or train whole; timm says of the third one's blocks, not of its size."""
    with torch.device("meta"):
        net = timm.create_model(name, num_classes=0)
    assert tuple(timm_images.preprocess_of(net)["size"]) == size
    _, is_block = timm_images.structure(net)
    assert any(is_block(n) for n, _ in net.named_modules()) == (name == "tiny_vit_5m_224")


def test_more_layers_than_there_are_stops_with_the_depth(bert, fetch):
    encoder = fetch(str(bert), "text")
    with pytest.raises(files.Stop, match=r"layers is 4, but '.*' has 3 blocks. Give 0 to 3"):
        encoder.unfreeze(4)


def test_dropout_acts_in_trained_blocks_alone(bert, fetch):
    encoder = fetch(str(bert), "text")
    encoder.unfreeze(1)
    encoder.train()
    layers = encoder.blocks()
    assert encoder.training
    assert [layer.output.dropout.training for layer in layers] == [False, False, True]
    assert not encoder.model[0].auto_model.embeddings.dropout.training
    content = TextContent(TEXTS, encoder)
    batch = content.batch(np.array([1, 2]))
    assert not torch.equal(encoder(batch), encoder(batch))
    encoder.eval()
    assert torch.equal(encoder(batch), encoder(batch))
    encoder.unfreeze(0)
    encoder.train()
    assert torch.equal(encoder(batch), encoder(batch))


@pytest.mark.parametrize("layers", [0, 1])
def test_what_is_frozen_keeps_its_bytes(layers, efficientnet, pack, fetch):
    encoder = fetch(str(efficientnet), "image")
    encoder.unfreeze(layers)
    encoder.train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    weights = encoders.weights(encoder)
    head = torch.nn.Linear(encoder.width, 1)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=0.1)

    head(encoder(ImageContent(pack, encoder).batch(np.array([1, 2, 4])))).sum().backward()
    optimizer.step()

    changed = {n for n, v in encoder.state_dict().items() if not torch.equal(v, before[n])}
    assert changed <= trained(encoder)  # so no running statistic either
    assert bool(changed) == bool(layers)
    assert (encoders.weights(encoder) == weights) == (layers == 0)
