"""open_clip models: the visual tower alone, read and written in open_clip's own format."""

import copy
import re
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

import safetensors.torch
from torch import Tensor, nn

from pipeline.content import image, timm_images
from pipeline.content.specification import Spec
from pipeline.data import files


class OpenClipEncoder(image.ImageEncoder):
    """The visual tower of an open_clip model; the text tower is neither kept nor trained."""

    def __init__(self, net: nn.Module, spec: Spec, config: dict[str, Any]) -> None:
        self.config = config  # of the whole model, in open_clip's words
        super().__init__(net, spec)

    @classmethod
    def fetch(cls, spec: Spec) -> Self:
        """Get the model from a local folder or the hub.

        Raises:
            files.Stop: it is neither, its weights are not named, or it is given options.
        """
        if spec.options:
            raise files.Stop(
                f"encoders.image.options is {spec.options}: open_clip takes none. Leave it out."
            )
        if Path(spec.model).is_dir():
            return cls.open(Path(spec.model), spec)
        import open_clip  # seconds to import, and only covers need it

        is_named = not spec.model.startswith("hf-hub:")
        if is_named and spec.model not in open_clip.list_models():
            near = ", ".join(get_close_matches(spec.model, open_clip.list_models(), 5)) or "none"
            raise files.Stop(
                f"encoders.image: open_clip knows no model {spec.model!r} (near it: {near}), "
                "and there is no such folder here."
            )
        known = open_clip.get_pretrained_cfg(spec.model, spec.weights) if spec.weights else {}
        if is_named and not (known or (spec.weights and Path(spec.weights).is_file())):
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(spec.model)) or "none known"
            lacking = "names no weights"
            if spec.weights:
                lacking = f"knows no weights {spec.weights!r}, and there is no such file here"
            raise files.Stop(
                f"encoders.image (open_clip:{spec.model}) {lacking}. "
                f"Write open_clip:{spec.model}/<tag>; tags of this model: {tags}."
            )
        try:
            config = dict(model_cfg=copy.deepcopy(open_clip.get_model_config(spec.model)))
            gelu = bool(config["model_cfg"].get("quick_gelu") or known.get("quick_gelu"))
            config["model_cfg"]["quick_gelu"] = gelu
            if spec.preprocess:
                config["model_cfg"]["vision_cfg"]["image_size"] = spec.preprocess.pixels
            model = open_clip.create_model(
                spec.model,
                pretrained=spec.weights,
                force_quick_gelu=gelu,
                force_image_size=spec.preprocess.pixels if spec.preprocess else None,
            )
        except image.UNREADABLE as error:
            name = f"open_clip:{spec.model}/{spec.weights or ''}".rstrip("/")
            raise files.Stop(image.missing(name, spec, error)) from error
        config["preprocess_cfg"] = dict(model.visual.preprocess_cfg)
        return cls(model.visual, image.resolved(spec, config["preprocess_cfg"]), config)

    @classmethod
    def open(cls, folder: Path, spec: Spec) -> Self:
        """Read the visual tower of a folder in open_clip's format; a text tower may be there.

        Raises:
            files.Stop: a file is missing or does not fit.
        """
        from open_clip.factory import load_state_dict, resize_pos_embed
        from open_clip.model import _build_vision_tower

        try:
            config = files.read_json(folder / "open_clip_config.json")
            model = config["model_cfg"]
            vision = dict(model["vision_cfg"], timm_model_pretrained=False)
            preprocess = config.setdefault("preprocess_cfg", {})
            if spec.preprocess:
                vision["image_size"] = preprocess["size"] = spec.preprocess.pixels
            else:
                preprocess.setdefault("size", vision.get("image_size", 224))
            net = _build_vision_tower(model["embed_dim"], vision, model.get("quick_gelu", False))
            tower = nn.ModuleDict({"visual": net})
            state = load_state_dict(str(_weights(folder)))
            state = {name: value for name, value in state.items() if name.startswith("visual.")}
            resize_pos_embed(state, tower)
            tower.load_state_dict(state)
        except image.UNREADABLE as error:
            raise files.Stop(f"the open_clip encoder in {folder} {image.because(error)}") from error
        config["model_cfg"]["vision_cfg"] = vision
        return cls(net, image.resolved(spec, preprocess), config)

    def write(self, folder: Path) -> None:
        """Write open_clip's two files; the weights are those of the visual tower."""
        files.write_json(folder / "open_clip_config.json", self.config)
        tensors = {f"visual.{name}": value for name, value in self.weights().items()}
        safetensors.torch.save_file(tensors, folder / "open_clip_model.safetensors")

    def _structure(self) -> tuple[Callable[[str], bool], Callable[[str], bool]]:
        if hasattr(self.net, "trunk"):  # a timm model, with a projection above it
            is_below, is_block = timm_images.structure(self.net.trunk)  # type: ignore[arg-type]
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

    def ends(self) -> image.Ends | None:
        """Look the net's family up; a timm model has its projection above."""
        trunk = getattr(self.net, "trunk", None)
        if trunk is not None:
            inner = timm_images.ends(trunk)
            head: Any = self.net.head
            return inner and inner._replace(above=[*inner.above, head])
        family = FAMILIES.get(type(self.net).__name__)
        return None if family is None else family(self.net)


def _above_vit(net: Any) -> Callable[[Tensor], Tensor]:  # noqa: ANN401
    def pool(x: Tensor) -> Tensor:
        pooled: Tensor = net._pool(x)[0]
        return pooled if net.proj is None else pooled @ net.proj

    return pool


def _first_token(block: Any, x: Tensor) -> Tensor:  # noqa: ANN401
    """Run a ViT's block for the first token alone, as `ResidualAttentionBlock.forward` does."""
    read = block.ln_1(x)
    made = x[:, :1] + block.ls_1(block.attention(read[:, :1], read, read))
    made = made + block.ls_2(block.mlp(block.ln_2(made)))
    assert isinstance(made, Tensor)
    return made


def _reads_first(net: Any) -> bool:  # noqa: ANN401
    """Tell whether a ViT's vector is made of its first token, and its blocks are the usual ones."""
    from open_clip.transformer import ResidualAttentionBlock

    usual = all(type(block) is ResidualAttentionBlock for block in net.transformer.resblocks)
    return usual and net.attn_pool is None and net.pool_type == "tok"


def _vit(net: Any) -> image.Ends:  # noqa: ANN401
    first = _first_token if _reads_first(net) else None
    return image.Ends([net._embeds], [_above_vit(net)], first)


# By the name of the class, what open_clip's own `forward` does before and after the blocks.
FAMILIES: dict[str, Callable[[Any], image.Ends]] = {
    "VisionTransformer": _vit,
    "ModifiedResNet": lambda net: image.Ends([net.stem], [net.attnpool]),
}


def _weights(folder: Path) -> Path:
    """Find a folder's weights, safetensors first.

    Raises:
        FileNotFoundError: there are none.
    """
    names = "open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors"
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder / names[0]} is missing")
