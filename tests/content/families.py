"""Small encoders of every family that can be divided, and what tests ask of them."""

import numpy as np
import open_clip
import timm
import torch

from pipeline.content import blocks, open_clip_images, specification, text, timm_images
from pipeline.content.image import ImageContent, resolved
from pipeline.content.specification import Spec
from pipeline.content.text import TextContent
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


def small_vit(name="vit_tiny_patch16_224", **options):
    size = dict(img_size=32, patch_size=8, embed_dim=16, depth=3, num_heads=2)
    return small_timm(name, **size, **options)


def small_clip_vit(**vision):
    return small_clip(width=32, layers=3, patch_size=16, head_width=16, **vision)


IMAGES = {
    "timm ViT": small_vit,
    "timm ViT, mean": lambda: small_vit(global_pool="avg"),
    "timm ViT, scaled": lambda: small_vit(
        init_values=0.5, qk_norm=True, scale_attn_norm=True, reg_tokens=2
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
    "open_clip ViT": small_clip_vit,
    "open_clip ViT, mean": lambda: small_clip_vit(pool_type="avg"),
    "open_clip ResNet": lambda: small_clip(layers=[1, 1, 1, 1], width=16, head_width=16),
    "open_clip ConvNeXt": lambda: small_clip(
        timm_model_name="test_convnext", timm_pool="avg", timm_proj="linear"
    ),
}
TEXT_FAMILIES = ["bert", "roberta", "xlm_roberta"]
FAMILIES = [*TEXT_FAMILIES, *(f"{name}, first token" for name in TEXT_FAMILIES), *IMAGES]


def reader(folder, pooling=None):
    """The text encoder of a folder in float64 and what it reads."""
    spec = specification.resolve(str(folder), "text").model_copy(update={"pooling": pooling})
    encoder = text.SentenceEncoder.fetch(spec).double()
    return encoder, TextContent(TEXTS, encoder)


def made(family, pack, request):
    """An encoder in float64 and what it reads."""
    if family in IMAGES:
        encoder = IMAGES[family]().double()
        return encoder, ImageContent(pack, encoder)
    name, _, pooled = family.partition(", ")
    return reader(request.getfixturevalue(name), "cls" if pooled == "first token" else None)


def passed(encoder, batch, encode=None):
    """Vectors of a batch and every trained parameter's gradient."""
    encoder.zero_grad()
    vectors = (encode or encoder)(batch)
    (vectors**2 * torch.arange(1, len(vectors) + 1)[:, None]).sum().backward()
    found = {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None}
    return {"vectors": vectors.detach(), **found}


def counted(monkeypatch):
    """Count the batches that go through a prefix."""
    calls = []
    real = blocks.Encoder.prefix
    monkeypatch.setattr(
        blocks.Encoder, "prefix", lambda self, batch: calls.append(1) or real(self, batch)
    )
    return calls
