"""timm models without their classifier, read and written in timm's own format."""

import re
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

import safetensors.torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.content import image
from pipeline.content.specification import Spec
from pipeline.data import files


class TimmEncoder(image.ImageEncoder):
    """A timm model without its classifier."""

    @classmethod
    def fetch(cls, spec: Spec) -> Self:
        """Get the model from a local folder, local weights or the hub.

        The classifier that the weights have is built, loaded strictly and then dropped, so that
        weights that don't fit stop here. `options` go to timm; `num_classes` is the weights' own.

        Raises:
            files.Stop: name, weights or options don't fit.
        """
        if Path(spec.model).is_dir():
            return cls.open(Path(spec.model), spec)
        import timm  # seconds to import, and only covers need it

        if not timm.is_model(spec.model.partition(".")[0]) and ":" not in spec.model:
            near = ", ".join(get_close_matches(spec.model, timm.list_models(), 5)) or "none"
            raise files.Stop(
                f"encoders.image: timm knows no model {spec.model!r} (near it: {near}), "
                "and there is no such folder here."
            )
        if spec.weights is not None and not Path(spec.weights).is_file():
            raise files.Stop(
                f"encoders.image.weights is {spec.weights!r}: no such file. Paths are relative to "
                "the folder of params.yaml."
            )
        try:
            net = timm.create_model(
                spec.model,
                pretrained=True,
                pretrained_cfg_overlay=_overlay(spec),
                **_sized(spec, _published(spec.model)),
            )
            net.reset_classifier(0)
        except image.UNREADABLE as error:
            raise files.Stop(image.missing(f"timm:{spec.model}", spec, error)) from error
        return cls(net, image.resolved(spec, preprocess_of(net)))

    @classmethod
    def open(cls, folder: Path, spec: Spec) -> Self:
        """Read a folder in timm's format.

        Raises:
            files.Stop: a file is missing or does not fit.
        """
        import timm  # seconds to import, and only covers need it

        try:
            config = files.read_json(folder / "config.json")
            sized = _sized(spec.model_copy(update={"options": {}}), config["pretrained_cfg"])
            net = timm.create_model(f"local-dir:{folder}", pretrained=True, **sized)
            net.reset_classifier(0)
        except image.UNREADABLE as error:
            raise files.Stop(f"the timm encoder in {folder} {image.because(error)}") from error
        return cls(net, image.resolved(spec, preprocess_of(net)))

    def write(self, folder: Path) -> None:
        """Write timm's config.json and model.safetensors."""
        from timm.models._hub import save_config_for_hf

        save_config_for_hf(self.net, str(folder / "config.json"))
        safetensors.torch.save_file(self.weights(), folder / "model.safetensors")

    def _structure(self) -> tuple[Callable[[str], bool], Callable[[str], bool]]:
        return structure(self.net)

    def ends(self) -> image.Ends | None:
        """Look the net's family up."""
        return ends(self.net)


def _first_token(block: Any, x: Tensor) -> Tensor:  # noqa: ANN401
    """Run a ViT's block for the first token alone, which attends to all: `Block.forward`'s way."""
    attention = block.attn
    projected = attention.qkv(block.norm1(x))  # queries of all too: one layer makes all three
    parts = projected.view(*x.shape[:2], 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    query, key, value = parts.unbind(0)  # [n, heads, T, width of a head] each
    attended = F.scaled_dot_product_attention(
        attention.q_norm(query[:, :, :1]),
        attention.k_norm(key),
        value,
        dropout_p=attention.attn_drop.p if attention.training else 0.0,
    )
    attended = attention.norm(attended.transpose(1, 2).flatten(2))
    attended = attention.proj_drop(attention.proj(attended))
    made = x[:, :1] + block.drop_path1(block.ls1(attended))
    made = made + block.drop_path2(block.ls2(block.mlp(block.norm2(made))))
    assert isinstance(made, Tensor)
    return made


def _reads_first(net: Any) -> bool:  # noqa: ANN401
    """Tell whether a ViT's vector is made of its first token, and its blocks are the usual ones."""
    from timm.layers import Attention
    from timm.models.vision_transformer import Block

    def is_usual(one: Any) -> bool:  # noqa: ANN401
        is_known = type(one) is Block and type(one.attn) is Attention
        return is_known and getattr(one.attn, "gate", None) is None

    return net.global_pool == "token" and net.attn_pool is None and all(map(is_usual, net.blocks))


def _vit(net: Any) -> image.Ends:  # noqa: ANN401
    return image.Ends(
        [net.patch_embed, net._pos_embed, net.patch_drop, net.norm_pre],
        [net.norm, net.forward_head],
        _first_token if _reads_first(net) else None,
    )


# By the name of the class, and not of those derived from it, what timm's own `forward` does before
# and after the blocks.
FAMILIES: dict[str, Callable[[Any], image.Ends]] = {
    "VisionTransformer": _vit,
    "SwinTransformer": lambda net: image.Ends([net.patch_embed], [net.norm, net.forward_head]),
    "ConvNeXt": lambda net: image.Ends([net.stem], [net.norm_pre, net.forward_head]),
    "ResNet": lambda net: image.Ends(
        [net.conv1, net.bn1, net.act1, net.maxpool], [net.forward_head]
    ),
    "EfficientNet": lambda net: image.Ends(  # MobileNetV2 too
        [net.conv_stem, net.bn1], [net.conv_head, net.bn2, net.forward_head]
    ),
    "MobileNetV3": lambda net: image.Ends([net.conv_stem, net.bn1], [net.forward_head]),
}


def ends(net: nn.Module) -> image.Ends | None:
    """Give what stands around the blocks of a net of a known family."""
    family = FAMILIES.get(type(net).__name__)
    return None if family is None else family(net)


def _overlay(spec: Spec) -> dict[str, Any]:
    """Say what timm can't know of local weights: their file, classes and preprocessing."""
    overlay: dict[str, Any] = {}
    if spec.weights is not None:
        overlay["file"] = spec.weights
    if "num_classes" in spec.options:
        overlay["num_classes"] = spec.options["num_classes"]
    if spec.preprocess is not None:
        overlay |= spec.preprocess.model_dump(include={"mean", "std", "interpolation"})
    return overlay


def _published(model: str) -> dict[str, Any]:
    """Give what timm says of a model's published weights; nothing for one of the hub."""
    import timm

    known = timm.get_pretrained_cfg(model) if ":" not in model else None
    return dict(known.to_dict()) if known else {}


def _sized(spec: Spec, published: dict[str, Any]) -> dict[str, Any]:
    """Give timm's options, with the image size where a model is built for one size."""
    options: dict[str, Any] = dict(spec.options)
    if spec.preprocess is not None and published.get("fixed_input_size"):
        options.setdefault("img_size", spec.preprocess.pixels)
    return options


def preprocess_of(net: nn.Module) -> dict[str, Any]:
    """Give a model's own size, mean, std and interpolation."""
    import timm

    config = timm.data.resolve_model_data_config(net)
    size = getattr(getattr(net, "patch_embed", None), "img_size", None)
    return dict(config, size=size or config["input_size"][1:])


def structure(net: nn.Module) -> tuple[Callable[[str], bool], Callable[[str], bool]]:
    """Read below and blocks off the grouping that timm publishes with most of its models.

    Nothing is either where it publishes none, or one by anything but names.
    """
    try:
        matcher: dict[str, Any] = net.group_matcher(coarse=True)  # type: ignore[operator]
        stems, blocks = matcher["stem"], matcher["blocks"]
        stems = stems if isinstance(stems, (list, tuple)) else [stems]
        below = [stem[0] if isinstance(stem, (list, tuple)) else stem for stem in stems]
        block = blocks if isinstance(blocks, str) else blocks[0][0]
    except (AttributeError, AssertionError, KeyError, TypeError):
        return (lambda _: False), (lambda _: False)
    return (
        lambda name: any(re.match(pattern, name) for pattern in below),
        lambda name: re.fullmatch(block, name) is not None,
    )
