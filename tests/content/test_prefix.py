"""The frozen prefix, run once and kept: the same vectors and gradients as the whole encoder."""

import errno
import shutil

import numpy as np
import open_clip
import pytest
import timm
import torch
import transformers
from transformers import masking_utils

from pipeline.content import encoders, open_clip_images, prefix, text, timm_images
from pipeline.content.image import ImageContent, resolved
from pipeline.content.specification import Spec
from pipeline.content.text import TextContent
from pipeline.data import files
from tests.content.conftest import TEXTS

CPU = torch.device("cpu")
ITEMS = np.array([7, 1, 4, 6, 2])  # present in texts and covers but for one each


def small_timm(name, **options):
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=0, **options)
    spec = Spec(library="timm", model=name)
    return timm_images.TimmEncoder(net, resolved(spec, timm_images.preprocess_of(net)))


def small_clip(**vision):
    config = {"embed_dim": 24, "model_cfg": {}}
    torch.manual_seed(0)
    net = open_clip.model._build_vision_tower(24, {"image_size": 64, **vision})
    spec = Spec(library="open_clip", model="small")
    return open_clip_images.OpenClipEncoder(net, resolved(spec, {"size": 64}), config)


IMAGES = {
    "timm ViT": lambda: small_timm(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=16, depth=3, num_heads=2
    ),
    "timm Swin": lambda: small_timm(
        "swin_tiny_patch4_window7_224",
        img_size=56,
        embed_dim=16,
        depths=(1, 1, 2, 1),
        num_heads=(1, 2, 2, 2),
    ),
    "timm EfficientNet": lambda: small_timm("test_efficientnet"),
    "timm MobileNetV2": lambda: small_timm("mobilenetv2_035"),
    "timm MobileNetV3": lambda: small_timm("mobilenetv3_small_050"),
    "timm ResNet": lambda: small_timm("test_resnet"),
    "timm ConvNeXt": lambda: small_timm("test_convnext"),
    "open_clip ViT": lambda: small_clip(width=32, layers=3, patch_size=16, head_width=16),
    "open_clip ResNet": lambda: small_clip(layers=[1, 1, 1, 1], width=16, head_width=16),
    "open_clip ConvNeXt": lambda: small_clip(
        timm_model_name="test_convnext", timm_pool="avg", timm_proj="linear"
    ),
}


@pytest.fixture(scope="session")
def roberta(bert, tmp_path_factory):
    """BERT's folder with RoBERTa's layers, whose positions count from the pad's id."""
    folder = tmp_path_factory.mktemp("roberta")
    shutil.copytree(bert, folder, dirs_exist_ok=True)
    torch.manual_seed(0)
    config = transformers.RobertaConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=22, pad_token_id=0,
    )  # fmt: skip
    transformers.RobertaModel(config).save_pretrained(folder)
    return folder


def made(family, pack, request):
    """An encoder in float64 and what it reads."""
    if family in IMAGES:
        encoder = IMAGES[family]().double()
        return encoder, ImageContent(pack, encoder)
    folder = str(request.getfixturevalue(family))
    encoder = text.SentenceEncoder.fetch(encoders.resolve(folder, "text")).double()
    return encoder, TextContent(TEXTS, encoder)


def passed(encoder, batch):
    """Vectors of a batch and every trained parameter's gradient."""
    encoder.zero_grad()
    vectors = encoder(batch)
    (vectors**2 * torch.arange(1, len(vectors) + 1)[:, None]).sum().backward()
    found = {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None}
    return {"vectors": vectors.detach(), **found}


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("family", ["bert", "roberta", *IMAGES])
def test_vectors_and_gradients_are_those_of_the_whole_encoder(
    family, layers, pack, request, tmp_path
):
    encoder, content = made(family, pack, request)
    encoder.unfreeze(layers)
    kept = prefix.keep(encoder, content, tmp_path, CPU, "required")
    assert isinstance(kept, prefix.Kept)
    items = ITEMS[content.present[ITEMS]]
    encoder.eval()  # no dropout
    whole, ours = passed(encoder, content.batch(items)), passed(encoder, kept.batch(items))
    assert whole.keys() == ours.keys()
    assert len(whole) > 1, "something trains"
    for name, value in whole.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize(("attention", "made_by_library"), [("sdpa", 0), ("eager", 1)])
def test_a_pass_makes_the_layers_mask_once(
    bert, pack, request, monkeypatch, attention, made_by_library
):
    encoder, content = made("bert", pack, request)
    encoder.model[0].auto_model.set_attn_implementation(attention)
    encoder.unfreeze(2)
    batch = content.batch(ITEMS[content.present[ITEMS]])
    encoder.eval()
    expected = encoder(batch)
    state = encoder.prefix(batch)
    masks = []
    real = masking_utils.create_bidirectional_mask
    monkeypatch.setattr(
        masking_utils, "create_bidirectional_mask", lambda *of: masks.append(1) or real(*of)
    )
    found = encoder(state)
    assert len(masks) == made_by_library
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_trained_blocks_keep_their_dropout(bert, pack, request, tmp_path):
    encoder, content = made("bert", pack, request)
    encoder.unfreeze(1)
    kept = prefix.keep(encoder, content, tmp_path, CPU, "required")
    batch = kept.batch(ITEMS[content.present[ITEMS]])
    encoder.train()
    assert not torch.equal(encoder(batch), encoder(batch))
    encoder.eval()
    assert torch.equal(encoder(batch), encoder(batch))


@pytest.mark.parametrize("family", ["bert", "timm ViT"])
def test_where_nothing_trains_the_vectors_are_kept(family, pack, request, tmp_path):
    encoder, content = made(family, pack, request)
    encoder.unfreeze(0)
    kept = prefix.keep(encoder, content, tmp_path, CPU, "required")
    items = ITEMS[content.present[ITEMS]]
    torch.testing.assert_close(encoder(kept.batch(items)), encoder(content.batch(items)))
    assert kept.flat.shape == (content.present.sum(), encoder.width)


def counted(monkeypatch):
    """Count the batches that go through a prefix."""
    calls = []
    real = encoders.Encoder.prefix
    monkeypatch.setattr(
        encoders.Encoder, "prefix", lambda self, batch: calls.append(1) or real(self, batch)
    )
    return calls


def test_what_is_kept_is_used_again_while_only_the_top_differs(
    pack, request, tmp_path, monkeypatch
):
    encoder, content = made("bert", pack, request)
    encoder.unfreeze(1)
    calls = counted(monkeypatch)
    prefix.keep(encoder, content, tmp_path, CPU, "auto")
    assert len(calls) == 1
    with torch.no_grad():
        encoder.blocks()[2].output.dense.weight += 1
    prefix.keep(encoder, content, tmp_path, CPU, "auto")
    assert len(calls) == 1, "a tuned encoder shares what lies below its tuned part"
    with torch.no_grad():
        encoder.blocks()[1].output.dense.weight += 1
    prefix.keep(encoder, content, tmp_path, CPU, "auto")
    assert len(calls) == 2, "other frozen weights"
    encoder.unfreeze(2)
    prefix.keep(encoder, content, tmp_path, CPU, "auto")
    assert len(calls) == 3, "another number of blocks"
    other = TextContent([*TEXTS[:-1], "blue hat"], encoder)
    prefix.keep(encoder, other, tmp_path, CPU, "auto")
    assert len(calls) == 4, "other texts"


def test_filling_again_gives_the_same_bytes(pack, request, tmp_path):
    encoder, content = made("bert", pack, request)
    encoder.unfreeze(1)
    for name in ("one", "two"):
        prefix.keep(encoder, content, tmp_path / name, CPU, "auto")
    one, two = (next((tmp_path / n).rglob(prefix.DATA)).read_bytes() for n in ("one", "two"))
    assert one == two


def test_what_is_cut_off_is_made_anew_with_a_warning(pack, request, tmp_path, capsys):
    encoder, content = made("bert", pack, request)
    encoder.unfreeze(1)
    before = prefix.keep(encoder, content, tmp_path, CPU, "auto").flat.clone()
    data = next(tmp_path.rglob(prefix.DATA))
    size = data.stat().st_size
    data.write_bytes(data.read_bytes()[:-8])
    after = prefix.keep(encoder, content, tmp_path, CPU, "auto").flat
    assert torch.equal(before, after)
    assert f"has {size - 8:,} of {size:,} bytes; it is made anew" in capsys.readouterr().err


def test_a_disk_too_small_stops_with_the_bytes_and_leaves_what_was_there(
    pack, request, tmp_path, monkeypatch
):
    encoder, content = made("bert", pack, request)
    encoder.unfreeze(1)
    (tmp_path / "mine").write_text("kept")
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(prefix.shutil, "disk_usage", lambda _: usage)
    needed = int(content.lengths.sum()) * 16 * 8
    with pytest.raises(files.Stop, match=rf"need {needed:,} bytes in .*, where 100 are free"):
        prefix.keep(encoder, content, tmp_path, CPU, "auto")
    assert not list(tmp_path.rglob(prefix.DATA))
    assert (tmp_path / "mine").read_text() == "kept"


def test_a_disk_that_fills_up_on_the_way_stops_as_well(pack, request, tmp_path, monkeypatch):
    encoder, content = made("bert", pack, request)
    encoder.unfreeze(1)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prefix.os, "fsync", full)
    with pytest.raises(files.Stop, match=r"activations need [\d,]+ bytes in"):
        prefix.keep(encoder, content, tmp_path, CPU, "auto")
    assert not list(tmp_path.rglob(prefix.DATA))


def test_a_family_that_is_not_known_goes_without_or_stops(pack, tmp_path, capsys):
    encoder = small_timm("test_vit2")
    encoder.net.__class__ = type("Unheard", (type(encoder.net),), {})
    content = ImageContent(pack, encoder)
    encoder.unfreeze(1)
    assert prefix.keep(encoder, content, tmp_path, CPU, "auto") is content
    assert "the blocks of 'test_vit2' (timm) can't be run apart" in capsys.readouterr().err
    with pytest.raises(files.Stop, match=r"prefix_cache is 'required', but the blocks of 'test_v"):
        prefix.keep(encoder, content, tmp_path, CPU, "required")


@pytest.mark.parametrize(("layers", "cache"), [("all", "required"), (3, "auto"), (1, "off")])
def test_nothing_is_kept_where_all_trains_or_it_is_off(
    layers, cache, pack, request, tmp_path, capsys
):
    encoder, content = made("bert", pack, request)
    encoder.unfreeze(layers)
    assert prefix.keep(encoder, content, tmp_path, CPU, cache) is content
    assert capsys.readouterr().err == ""


def test_items_without_content_are_refused(pack, request, tmp_path):
    encoder, content = made("bert", pack, request)
    encoder.unfreeze(1)
    kept = prefix.keep(encoder, content, tmp_path, CPU, "auto")
    with pytest.raises(ValueError, match=r"items without content: \[3\]"):
        kept.batch(np.array([1, 3]))
