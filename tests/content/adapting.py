"""Adapters inside small encoders, as they begin and as training may have left them."""

import torch

from pipeline.content import lora

TWO = lora.Lora(rank=2, alpha=4, dropout=0.0, layers=2)


def changed(**values):
    return TWO.model_copy(update=values)


def adapters(encoder):
    return {name: p for name, p in encoder.named_parameters() if p.requires_grad}


def nudge(encoder, seed=0):
    """Set adapters to what training might have made of them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapters(encoder).values():
            parameter.normal_(0, 0.1, generator=generator)
