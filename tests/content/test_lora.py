"""LoRA: adapters learn, the encoder around them keeps its bytes, and what is written has none."""

import numpy as np
import pytest
import torch

from pipeline.content import encoders, lora
from pipeline.content.image import ImageContent
from pipeline.content.text import TextContent
from pipeline.data import files
from tests.content.adapting import TWO, adapters, changed, nudge
from tests.content.conftest import TEXTS, timm_folder
from tests.content.families import FAMILIES, ITEMS, made, small_timm


def layers_of(names):
    """The layers that have adapters."""
    return {name.partition(".lora_")[0] for name in names}


def state(encoder):
    return {name: value.clone() for name, value in encoder.state_dict().items()}


def ready(family, pack, request):
    """An encoder in float64, and a batch; residual branches count, which ResNets begin without."""
    encoder, content = made(family, pack, request)
    encoder.eval()  # no dropout
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)
    return encoder, content.batch(ITEMS[content.present[ITEMS]])


@pytest.mark.parametrize("layers", [1, 2, "all"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_start_is_the_public_encoder_to_the_bit(family, layers, pack, request):
    encoder, batch = ready(family, pack, request)
    public = state(encoder)
    blocks = encoder.blocks()
    with torch.no_grad():
        before = encoder(batch)
        lora.adapt(encoder, changed(layers=layers), 0)
        assert torch.equal(encoder(batch), before)
    assert encoder.blocks() == blocks
    top = blocks if layers == "all" else blocks[-layers:]
    inside = {id(p) for block in top for p in block.parameters()}
    trained = adapters(encoder)
    assert trained
    assert all(".lora_" in name and id(p) in inside for name, p in trained.items())
    rest = [value for name, value in encoder.state_dict().items() if name not in trained]
    assert len(rest) == len(public)
    assert encoder.trains_whole == (layers == "all")


@pytest.mark.parametrize("family", FAMILIES)
def test_all_adapters_learn_and_nothing_else_moves(family, pack, request):
    encoder, batch = ready(family, pack, request)
    lora.adapt(encoder, TWO, 0)
    nudge(encoder)
    before, trained = state(encoder), adapters(encoder)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-3, weight_decay=0.1)
    encoder.train()
    for _ in range(3):
        (encoder(batch) ** 2).sum().backward()
        optimizer.step()
    after = encoder.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == set(trained)


SMALL = dict(img_size=32, embed_dim=16, num_heads=2)
APART = {  # models whose query, key and value are one layer, their biases parameters of their own
    "beit_base_patch16_224": SMALL | dict(patch_size=8, depth=3),
    "eva_giant_patch14_224": SMALL | dict(patch_size=8, depth=3),
    "swinv2_tiny_window8_256": dict(img_size=64, embed_dim=16, depths=(1, 1, 1), window_size=4,
                                    num_heads=(1, 2, 2)),
}  # fmt: skip


@pytest.mark.parametrize("model", APART)
def test_an_adapter_beside_biases_apart_acts_and_learns(model, pack):
    encoder = small_timm(model, **APART[model]).double().eval()
    for module in encoder.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.ones_(module.weight)  # Swin v2 begins without its residual branches
    assert any(name.endswith("q_bias") for name, _ in encoder.named_parameters())
    content = ImageContent(pack, encoder)
    batch = content.batch(ITEMS[content.present[ITEMS]])
    public = encoder(batch).detach()
    lora.adapt(encoder, changed(layers=1, dropout=0.0), 0)
    torch.testing.assert_close(encoder(batch).detach(), public, rtol=1e-12, atol=1e-12)
    nudge(encoder)
    (encoder(batch) ** 2).sum().backward()
    assert any(".qkv." in name for name in adapters(encoder))
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in adapters(encoder).values())
    with torch.no_grad():
        torch.testing.assert_close(lora.merged(encoder)(batch), encoder(batch))


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_it_gives_the_same_vectors_and_the_encoder_keeps_its_adapters(family, pack, request):
    encoder, batch = ready(family, pack, request)
    names = set(encoder.state_dict())
    with torch.no_grad():
        public = encoder(batch)
        lora.adapt(encoder, TWO, 0)
        nudge(encoder)
        tuned, before = encoder(batch), state(encoder)
        plain = lora.merged(encoder)
        assert (tuned - public).abs().max() > 1e-5
        torch.testing.assert_close(plain(batch), tuned, rtol=1e-10, atol=1e-10)
        assert set(plain.state_dict()) == names
        assert torch.equal(encoder(batch), tuned)
    after = encoder.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert lora.merged(plain) is plain


@pytest.fixture(scope="session")
def swin(tmp_path_factory):
    small = dict(img_size=56, embed_dim=16, depths=(1, 1, 2, 1), num_heads=(1, 2, 2, 2))
    return timm_folder(tmp_path_factory.mktemp("swin"), "swin_tiny_patch4_window7_224", **small)


@pytest.fixture(scope="session")
def mobilenet(tmp_path_factory):
    return timm_folder(tmp_path_factory.mktemp("mobilenet"), "mobilenetv2_035")


@pytest.fixture(scope="session")
def resnet(tmp_path_factory):
    return timm_folder(tmp_path_factory.mktemp("resnet"), "test_resnet")


@pytest.mark.parametrize(
    "model", ["bert", "clip", "vit", "efficientnet", "swin", "mobilenet", "resnet"]
)
def test_what_is_written_is_an_encoder_of_the_librarys_own(model, fetch, pack, request, tmp_path):
    encoder = fetch(
        str(request.getfixturevalue(model)), "text" if model == "bert" else "image", "public"
    )
    content = TextContent(TEXTS, encoder) if model == "bert" else ImageContent(pack, encoder)
    batch = content.batch(np.array([1, 2]))
    lora.adapt(encoder, TWO, 0)
    nudge(encoder)
    learning = adapters(encoder)
    encoders.save(encoder, tmp_path / "tuned")
    again = encoders.load(tmp_path / "tuned")
    with torch.no_grad():
        torch.testing.assert_close(again(batch), encoder(batch), rtol=1e-5, atol=1e-5)
    assert encoders.weights(again) == encoders.weights(lora.merged(encoder))
    public = encoders.load(tmp_path / "public")
    assert again.state_dict().keys() == public.state_dict().keys()
    assert encoders.weights(again) != encoders.weights(public)
    assert again.specification == encoder.specification
    names = [{path.name for path in (tmp_path / out).rglob("*")} for out in ("public", "tuned")]
    assert names[0] == names[1]
    assert all(p is learning[name] for name, p in adapters(encoder).items())
    # Trained on and written again, it is what it is then.
    nudge(encoder, seed=1)
    encoders.save(encoder, tmp_path / "later")
    with torch.no_grad():
        later = encoders.load(tmp_path / "later")(batch)
        torch.testing.assert_close(later, encoder(batch), rtol=1e-5, atol=1e-5)
        assert not torch.allclose(later, again(batch))


def test_dropout_acts_while_training_and_in_adapted_blocks_alone(bert, pack, request):
    encoder, content = made("bert", pack, request)
    lora.adapt(encoder, changed(layers=1, dropout=0.5), 0)
    nudge(encoder)
    batch = content.batch(np.array([1, 2]))
    encoder.train()
    drops = {n: m.training for n, m in encoder.named_modules() if isinstance(m, torch.nn.Dropout)}
    own = {name for name in drops if "lora_dropout" in name}
    assert len(own) == 6
    assert {name for name, acts in drops.items() if acts} == {
        name for name in drops if "encoder.layer.2." in name
    }
    for name, module in encoder.named_modules():
        if name in drops.keys() - own:
            module.p = 0.0  # the model's own
    assert not torch.equal(encoder(batch), encoder(batch))
    encoder.eval()
    assert torch.equal(encoder(batch), encoder(batch))


@pytest.mark.parametrize(
    ("family", "inside", "adapted"),
    [
        (
            "bert",
            "model.0.model.encoder.layer.2.",
            [
                "attention.self.query",
                "attention.self.key",
                "attention.self.value",
                "attention.output.dense",
                "intermediate.dense",
                "output.dense",
            ],
        ),
        ("timm ViT", "net.blocks.2.", ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]),
        # attn: the one weight of query, key and value.
        ("open_clip ViT", "net.transformer.resblocks.2.", ["attn", "mlp.c_fc", "mlp.c_proj"]),
        # Not conv_dw, which is grouped.
        ("timm MobileNetV2", "net.blocks.6.", ["0.conv_pw", "0.conv_pwl"]),
        ("timm ResNet", "net.layer4.", ["0.conv1", "0.conv2", "0.downsample.1"]),
        (
            "timm Swin",
            "net.layers.3.",
            [
                "downsample.reduction",
                "blocks.0.attn.qkv",
                "blocks.0.attn.proj",
                "blocks.0.mlp.fc1",
                "blocks.0.mlp.fc2",
            ],
        ),
    ],
)
def test_which_layers_take_adapters(family, inside, adapted, pack, request):
    encoder, _ = made(family, pack, request)
    lora.adapt(encoder, changed(layers=1), 0)
    assert layers_of(adapters(encoder)) == {inside + name for name in adapted}


def test_a_layer_acts_as_its_weight_and_the_scaled_product(bert, pack, request):
    encoder, _ = made("bert", pack, request)
    lora.adapt(encoder, lora.Lora(rank=3, alpha=12, dropout=0.0, layers=1), 0)
    nudge(encoder)
    layer = encoder.blocks()[-1].output.dense
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert (a.shape, b.shape) == ((3, 32), (16, 3))
    by_hand = layer.base_layer.weight + 12 / 3 * b @ a
    torch.testing.assert_close(lora.merged(encoder).blocks()[-1].output.dense.weight, by_hand)


def test_adapters_are_their_seeds_and_no_other_draw_is_moved(bert, pack, request):
    one, other = (made("bert", pack, request)[0] for _ in range(2))
    torch.manual_seed(1)
    lora.adapt(one, TWO, 0)
    drawn = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), drawn)
    lora.adapt(other, TWO, 0)
    theirs = adapters(other)
    assert all(torch.equal(p, theirs[name]) for name, p in adapters(one).items())
    assert any(p.any() for p in theirs.values())
    third, _ = made("bert", pack, request)
    lora.adapt(third, TWO, 1)
    assert not any(torch.equal(p, theirs[name]) for name, p in adapters(third).items() if p.any())


def test_without_layers_nothing_trains(bert, pack, request):
    encoder, _ = made("bert", pack, request)
    lora.adapt(encoder, changed(layers=0), 0)
    assert encoder.is_frozen
    assert not adapters(encoder)


def test_more_layers_than_there_are_stop_with_the_depth(bert, pack, request):
    encoder, _ = made("bert", pack, request)
    with pytest.raises(
        files.Stop,
        match=r"end2end.trainable.lora.layers is 4, but '.*' has 3 blocks. Give 0 to 3, or 'all'",
    ):
        lora.adapt(encoder, changed(layers=4), 0)


@pytest.mark.parametrize("layers", [1, "all"])
def test_blocks_that_are_not_known_stop(layers, bert, pack, request, monkeypatch):
    encoder, _ = made("bert", pack, request)
    monkeypatch.setattr(type(encoder), "blocks", lambda self: [])
    said = (
        rf"lora.layers is {layers}, but the blocks of '.*' \(sentence-transformers\) are not "
        "known. Set end2end.trainable.layers to 'all' or 0"
    )
    with pytest.raises(files.Stop, match=said):
        lora.adapt(encoder, changed(layers=layers), 0)


def test_blocks_without_a_layer_that_takes_adapters_stop():
    encoder = small_timm("mobilenetv2_035")
    for number, block in enumerate(encoder.blocks()):
        encoder.net.blocks[number] = torch.nn.Sequential(block[0].conv_dw)
    said = (
        r"end2end.trainable.lora: the blocks of 'mobilenetv2_035' \(timm; Sequential\) have no "
        "linear layer and no ungrouped convolution .* Set end2end.trainable.layers instead"
    )
    with pytest.raises(files.Stop, match=said):
        lora.adapt(encoder, TWO, 0)
