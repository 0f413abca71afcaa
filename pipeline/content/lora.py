"""LoRA by PEFT: an encoder's blocks stay as published, and small adapters inside them learn."""

import copy
import re
from collections.abc import Iterator
from typing import Any, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import nn

from pipeline.content.blocks import Encoder
from pipeline.data import files
from pipeline.params import Section


class Lora(Section):
    """Adapters: a layer's weight W [out, in] acts as W + alpha / rank * B A."""

    rank: PositiveInt  # A is [rank, in], B [out, rank]
    alpha: PositiveFloat
    # Share of an adapter's input hidden while it trains; nothing of attention in open_clip, whose
    # query, key and value are one weight.
    dropout: float = Field(ge=0, lt=1)
    # So many blocks from the top; what stands above them gets none.
    layers: NonNegativeInt | Literal["all"]


def adapt(encoder: Encoder, settings: Lora, seed: int) -> None:
    """Freeze an encoder and let adapters inside its top blocks train; its vectors stay as they are.

    Args:
        encoder: as it starts.
        settings: the adapters.
        seed: of their first matrix A; the second, B, begins at zero.

    Raises:
        files.Stop: there are fewer blocks than that, or nothing in them takes an adapter.
    """
    import peft  # seconds to import, and only LoRA needs it

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for block in encoder.choose(settings.layers, "end2end.trainable.lora.layers"):
            _call_packed(block)
            for targets in _targets(block, settings.dropout):
                config = peft.LoraConfig(r=settings.rank, lora_alpha=settings.alpha, **targets)
                peft.inject_adapter_in_model(config, block)
                del block.peft_config  # else PEFT takes the next ones for a second adapter
    if encoder.layers and not any(p.requires_grad for p in encoder.parameters()):
        kinds = ", ".join(sorted({type(block).__name__ for block in encoder.blocks()}))
        raise files.Stop(
            f"end2end.trainable.lora: the blocks of {encoder.spec.model!r} "
            f"({encoder.spec.library}; {kinds}) have no linear layer and no ungrouped convolution "
            "that could take an adapter. Set end2end.trainable.layers instead."
        )
    encoder.train(encoder.training)


def merged(encoder: Encoder) -> Encoder:
    """Give an encoder without adapters that gives the same vectors; the one given is left alone.

    Returns:
        A copy with the adapters added to the weights, or the encoder itself if it has none.
    """
    if not any(".lora_A." in name for name, _ in encoder.named_parameters()):
        return encoder
    from peft.tuners.tuners_utils import BaseTunerLayer

    found = copy.deepcopy(encoder)
    for name, module in reversed([*found.named_modules()]):  # an adapted layer may hold others
        if isinstance(module, BaseTunerLayer):
            module.merge()
            found.set_submodule(name, module.get_base_layer())
    return found


def _targets(block: nn.Module, dropout: float) -> Iterator[dict[str, Any]]:
    """Say in PEFT's words which layers of a block take adapters."""
    modules = dict(block.named_modules())
    layers = [name for name, module in modules.items() if _takes_adapter(module)]
    if layers:
        named = "|".join(map(re.escape, layers))
        yield {"target_modules": named, "lora_dropout": dropout}
    # Attention that reads one weight for query, key and value itself. PEFT's own wrapper of it
    # changes the frozen weights by rounding at each pass; as parameters they can't have dropout.
    packed = [
        f"{name}.in_proj_weight"
        for name, module in modules.items()
        if isinstance(getattr(module, "in_proj_weight", None), nn.Parameter)
    ]
    if packed:
        yield {"target_modules": [], "target_parameters": packed}


def _call_packed(block: nn.Module) -> None:
    """Let timm's attention with biases apart (BEiT, EVA, Swin v2) call its layer, adapter and all.

    As published it reads the layer's weight and leaves an adapter out; its other way, the biases
    added after, gives the same vectors but for rounding.
    """
    for module in block.modules():
        if hasattr(module, "qkv_bias_separate"):
            attention: Any = module  # timm's, whose attribute has no type
            attention.qkv_bias_separate = True


def _takes_adapter(module: nn.Module) -> bool:
    """Whether a layer is one that PEFT adapts and merges rightly; derived classes may differ."""
    if type(module) is nn.Conv2d:
        return module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == "zeros"
    return type(module) is nn.Linear
