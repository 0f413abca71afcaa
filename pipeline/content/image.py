"""Covers: packed pixels, encoded by an open_clip or timm model that resizes and normalises itself."""

import copy
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.content.blocks import Encoder
from pipeline.content.specification import Preprocess, Spec
from pipeline.data import files

if TYPE_CHECKING:
    from pipeline.data import covers

HASHED = 256  # covers read at a time: 40 MB at 224 pixels

# What a reader of models raises where a name, a file or an option does not fit.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError)


class ImageEncoder(Encoder):
    """An image model over covers of any size: resize, scale to [0, 1], normalise, encode."""

    modality = "image"
    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, spec: Spec) -> None:
        super().__init__()
        assert spec.preprocess is not None, "a fetched image encoder knows its preprocessing"
        self.spec, self.preprocess = spec, spec.preprocess
        # Covers arrive as [n, S, S, 3]: to the channels-last kernels, that is no copy.
        self.net = net.float().to(memory_format=torch.channels_last)
        for name in ("mean", "std"):
            value = torch.tensor(getattr(self.preprocess, name)).view(3, 1, 1)
            self.register_buffer(name, value, persistent=False)
        self.unfreeze(0)
        with torch.no_grad():
            size = self.preprocess.size
            self.width = self(dict(pixels=torch.zeros(1, size, size, 3, dtype=torch.uint8))).shape[
                1
            ]

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Encode {pixels}: [n, S, S, 3] uint8 -> [n, C]."""
        pixels = batch["pixels"].to(self.device).permute(0, 3, 1, 2).to(self.dtype) / 255
        size = self.preprocess.size
        if pixels.shape[-1] != size or pixels.shape[-2] != size:
            mode = self.preprocess.interpolation
            pixels = F.interpolate(pixels, size=(size, size), mode=mode, antialias=True)
            pixels = pixels.clamp(0, 1)  # bicubic overshoots
        encoded: Tensor = self.net((pixels - self.mean) / self.std)
        return encoded

    def content(self, pack: "covers.Pack") -> "ImageContent":
        """Read packed covers for this encoder."""
        return ImageContent(pack, self)

    def weights(self) -> dict[str, Tensor]:
        """The net's tensors as files hold them."""
        return {name: value.contiguous() for name, value in self.net.state_dict().items()}

    def blocks(self) -> list[nn.Module]:
        """List the blocks or stages from bottom to top."""
        matches = self._structure()[1]
        return [module for name, module in self.net.named_modules() if matches(name)]

    def above(self) -> list[nn.Module | nn.Parameter]:
        """List what is neither a block nor below the blocks."""
        is_below, _ = self._structure()
        blocks = {id(p) for block in self.blocks() for p in block.parameters()}
        return [
            parameter
            for name, parameter in self.net.named_parameters()
            if id(parameter) not in blocks and not is_below(name)
        ]

    def _structure(self) -> tuple[Callable[[str], bool], Callable[[str], bool]]:
        """Tell whether a parameter lies below the blocks, and whether a module is a block."""
        raise NotImplementedError


class OpenClipEncoder(ImageEncoder):
    """The visual tower of an open_clip model; the text tower is neither kept nor trained."""

    def __init__(self, net: nn.Module, spec: Spec, config: dict[str, Any]) -> None:
        self.config = config  # of the whole model, in open_clip's words
        super().__init__(net, spec)

    @classmethod
    def fetch(cls, spec: Spec) -> Self:
        """Get the model from a local folder or the hub.

        Raises:
            files.Stop: it is neither, or its weights are not named.
        """
        if Path(spec.model).is_dir():
            return cls.open(Path(spec.model), spec)
        import open_clip  # noqa: PLC0415  # seconds to import, and only covers need it

        if spec.weights is None and not spec.model.startswith("hf-hub:"):
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(spec.model)) or "none known"
            raise files.Stop(
                f"encoders.image (open_clip:{spec.model}) names no weights. "
                f"Write open_clip:{spec.model}/<tag>; tags of this model: {tags}."
            )
        known = open_clip.get_pretrained_cfg(spec.model, spec.weights) if spec.weights else {}
        try:
            config = dict(model_cfg=copy.deepcopy(open_clip.get_model_config(spec.model)))
            gelu = bool(config["model_cfg"].get("quick_gelu") or known.get("quick_gelu"))
            config["model_cfg"]["quick_gelu"] = gelu
            if spec.preprocess:
                config["model_cfg"]["vision_cfg"]["image_size"] = spec.preprocess.size
            model = open_clip.create_model(
                spec.model,
                pretrained=spec.weights,
                force_quick_gelu=gelu,
                force_image_size=spec.preprocess.size if spec.preprocess else None,
            )
        except UNREADABLE as error:
            raise files.Stop(_missing(f"open_clip:{spec.model}", spec, error)) from error
        config["preprocess_cfg"] = dict(model.visual.preprocess_cfg)
        return cls(model.visual, _resolved(spec, config["preprocess_cfg"]), config)

    @classmethod
    def open(cls, folder: Path, spec: Spec) -> Self:
        """Read the visual tower of a folder in open_clip's format; a text tower may be there.

        Raises:
            files.Stop: a file is missing or does not fit.
        """
        from open_clip.factory import load_state_dict, resize_pos_embed  # noqa: PLC0415
        from open_clip.model import _build_vision_tower  # noqa: PLC0415

        if spec.options:
            raise files.Stop(f"encoders.image.options is {spec.options}: open_clip takes none.")
        try:
            config = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
            model = config["model_cfg"]
            vision = dict(model["vision_cfg"], timm_model_pretrained=False)
            preprocess = config.setdefault("preprocess_cfg", {})
            if spec.preprocess:
                vision["image_size"] = preprocess["size"] = spec.preprocess.size
            else:
                preprocess.setdefault("size", vision.get("image_size", 224))
            net = _build_vision_tower(model["embed_dim"], vision, model.get("quick_gelu", False))
            tower = nn.ModuleDict({"visual": net})
            state = load_state_dict(str(_weights(folder, "open_clip_model")))
            state = {name: value for name, value in state.items() if name.startswith("visual.")}
            resize_pos_embed(state, tower)
            tower.load_state_dict(state)
        except UNREADABLE as error:
            raise files.Stop(f"the open_clip encoder in {folder} {_because(error)}") from error
        config["model_cfg"]["vision_cfg"] = vision
        return cls(net, _resolved(spec, preprocess), config)

    def write(self, folder: Path) -> None:
        """Write open_clip's two files; the weights are those of the visual tower."""
        files.write_json(folder / "open_clip_config.json", self.config)
        tensors = {f"visual.{name}": value for name, value in self.weights().items()}
        safetensors.torch.save_file(tensors, folder / "open_clip_model.safetensors")

    def _structure(self) -> tuple[Callable[[str], bool], Callable[[str], bool]]:
        if hasattr(self.net, "trunk"):  # a timm model, with a projection above it
            is_below, is_block = _timm_structure(self.net.trunk)  # type: ignore[arg-type]
            return (
                lambda name: name.startswith("trunk.") and is_below(name.removeprefix("trunk.")),
                lambda name: name.startswith("trunk.") and is_block(name.removeprefix("trunk.")),
            )
        below = re.compile(
            r"conv\d\.|bn\d\.|class_embedding|positional_embedding|ln_pre\.|patchnorm_pre_ln\."
        )
        block = re.compile(r"transformer\.resblocks\.\d+|layer\d")
        return (
            lambda name: below.match(name) is not None,
            lambda name: block.fullmatch(name) is not None,
        )


class TimmEncoder(ImageEncoder):
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
        import timm  # noqa: PLC0415  # seconds to import, and only covers need it

        if not timm.is_model(spec.model.partition(".")[0]) and ":" not in spec.model:
            near = ", ".join(timm.list_models(f"*{spec.model.split('_')[0]}*")[:8]) or "none"
            raise files.Stop(f"timm knows no model {spec.model!r}; names near it: {near}.")
        if spec.weights is not None and not Path(spec.weights).is_file():
            raise files.Stop(
                f"encoders.image.weights is {spec.weights!r}: no such file. Paths count from the "
                "folder of params.yaml."
            )
        try:
            net = timm.create_model(
                spec.model,
                pretrained=True,
                pretrained_cfg_overlay=_overlay(spec),
                **_sized(spec, timm.get_pretrained_cfg(spec.model)),
            )
            net.reset_classifier(0)
        except UNREADABLE as error:
            raise files.Stop(_missing(f"timm:{spec.model}", spec, error)) from error
        return cls(net, _resolved(spec, _timm_preprocess(net)))

    @classmethod
    def open(cls, folder: Path, spec: Spec) -> Self:
        """Read a folder in timm's format.

        Raises:
            files.Stop: a file is missing or does not fit.
        """
        import timm  # noqa: PLC0415  # seconds to import, and only covers need it

        try:
            net = timm.create_model(f"local-dir:{folder}", pretrained=True)
            net.reset_classifier(0)
        except UNREADABLE as error:
            raise files.Stop(f"the timm encoder in {folder} {_because(error)}") from error
        return cls(net, _resolved(spec, _timm_preprocess(net)))

    def write(self, folder: Path) -> None:
        """Write timm's config.json and model.safetensors."""
        from timm.models._hub import save_config_for_hf  # noqa: PLC0415

        save_config_for_hf(self.net, str(folder / "config.json"))
        safetensors.torch.save_file(self.weights(), folder / "model.safetensors")

    def _structure(self) -> tuple[Callable[[str], bool], Callable[[str], bool]]:
        return _timm_structure(self.net)


class ImageContent:
    """The packed covers of items 1..N."""

    def __init__(self, pack: "covers.Pack", encoder: Encoder) -> None:
        assert encoder.modality == "image", "covers are for image encoders"
        self.pixels, self.rows = pack.pixels, pack.rows
        self.present = self.rows >= 0
        self.lengths = self.present.astype(np.int64)  # every cover costs the same

    def batch(self, items: np.ndarray) -> dict[str, Tensor]:
        """Give [n] items' covers: [n, S, S, 3] uint8.

        Raises:
            ValueError: one of them has no cover.
        """
        if not self.present[items].all():
            raise ValueError(f"items without cover: {items[~self.present[items]][:5]}")
        return {"pixels": torch.from_numpy(np.array(self.pixels[self.rows[items]]))}

    def digest(self) -> str:
        """Hash the covers in the items' order, missing ones as such."""
        digest = hashlib.sha256(f"{self.pixels.shape[1:]}".encode() + self.present.tobytes())
        rows = self.rows[self.present]
        for start in range(0, len(rows), HASHED):
            digest.update(np.ascontiguousarray(self.pixels[rows[start : start + HASHED]]))
        return digest.hexdigest()


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


def _sized(spec: Spec, published: Any) -> dict[str, Any]:  # noqa: ANN401  # timm has no types
    """Give timm's options, with the image size where a model is built for one size."""
    options: dict[str, Any] = dict(spec.options)
    if spec.preprocess is not None and getattr(published, "fixed_input_size", False):
        options.setdefault("img_size", spec.preprocess.size)
    return options


def _timm_preprocess(net: nn.Module) -> dict[str, Any]:
    import timm  # noqa: PLC0415

    config = timm.data.resolve_model_data_config(net)
    size = net.patch_embed.img_size if hasattr(net, "patch_embed") else None  # type: ignore[union-attr]
    return dict(config, size=size or config["input_size"][1:])


def _timm_structure(net: nn.Module) -> tuple[Callable[[str], bool], Callable[[str], bool]]:
    """Read below and blocks off the grouping that timm publishes with each of its models."""
    matcher: dict[str, Any] = net.group_matcher(coarse=True)  # type: ignore[operator]
    stems = matcher["stem"] if isinstance(matcher["stem"], (list, tuple)) else [matcher["stem"]]
    below = [stem[0] if isinstance(stem, (list, tuple)) else stem for stem in stems]
    blocks = matcher["blocks"]
    block = blocks if isinstance(blocks, str) else blocks[0][0]
    return (
        lambda name: any(re.match(pattern, name) for pattern in below),
        lambda name: re.fullmatch(block, name) is not None,
    )


def _resolved(spec: Spec, own: dict[str, Any]) -> Spec:
    """Fill the preprocessing in from the model's own."""
    if spec.preprocess is not None:
        return spec
    size = own.get("size", 224)
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise files.Stop(f"{spec.model!r} reads images of {size}; only squares are supported.")
    preprocess = Preprocess(
        size=sides.pop(),
        mean=[float(value) for value in own.get("mean", (0.48145466, 0.4578275, 0.40821073))],
        std=[float(value) for value in own.get("std", (0.26862954, 0.26130258, 0.27577711))],
        interpolation="bilinear" if own.get("interpolation") == "bilinear" else "bicubic",
    )
    return spec.model_copy(update={"preprocess": preprocess})


def _weights(folder: Path, stem: str) -> Path:
    """Find a folder's weights, safetensors first.

    Raises:
        FileNotFoundError: there are none.
    """
    for name in (f"{stem}.safetensors", "open_clip_pytorch_model.bin", "model.safetensors"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder / stem}.safetensors is missing")


def _because(error: Exception) -> str:
    text = str(error).strip()
    return f"can't be read ({type(error).__name__}: {text[:300]})."


def _missing(name: str, spec: Spec, error: Exception) -> str:
    from huggingface_hub import constants  # noqa: PLC0415  # comes with timm

    offline = (
        " HF_HUB_OFFLINE is set, so nothing was downloaded." if constants.HF_HUB_OFFLINE else ""
    )
    if spec.weights is not None and Path(spec.weights).is_file():
        return f"the image encoder {name} with the weights {spec.weights} {_because(error)}"
    return (
        f"the image encoder {name} {_because(error)}{offline} The cache looked in: "
        f"{constants.HF_HUB_CACHE}. To use a local copy, set encoders.image in params.yaml to "
        "the path of its folder, or `weights` to a file."
    )
