"""Histories for tests of user encoders, and how each of them sees them."""

import torch

from pipeline.models import users
from pipeline.models.rows import Rows

WIDTH, LENGTH = 8, 6
SETTINGS = users.UserEncoders.model_validate(
    {
        "sasrec": {
            "blocks": 2, "heads": 2, "norm": "post", "activation": "relu", "expansion": 4,
            "dropout": 0.1,
        },
        "bert4rec": {
            "blocks": 2, "heads": 2, "norm": "pre", "activation": "gelu", "expansion": 4,
            "dropout": 0.1, "mask": {"share": 0.4, "last": 0.1},
        },
        "gru4rec": {"layers": 2, "dropout": 0.1},
        "nextitnet": {"dilations": [1, 2], "repeats": 2, "kernel": 3, "dropout": 0.1},
        "hstu": {"blocks": 2, "heads": 2, "dropout": 0.1},
    }
)  # fmt: skip


def encoder(name, width=WIDTH, settings=SETTINGS):
    """A user encoder in evaluation, in float64, all of whose weights are drawn."""
    torch.manual_seed(0)
    made = users.build(name, width, LENGTH, settings).double().eval()
    for parameter in made.parameters():  # biases and norms too, which begin at 0 and 1
        torch.nn.init.normal_(parameter, std=0.5)
    return made


def histories(n=5, length=LENGTH):
    """Vectors [n, length, D], right-padded, and the lengths."""
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(n, length, WIDTH, dtype=torch.float64, generator=generator)
    return vectors, torch.tensor([6, 1, 3, 5, 2])[:n].clamp(max=length)


def encode(model, vectors, lengths):
    """Encode right-padded histories [B, T, D]: the same shape, 0 where there is no item."""
    rows = Rows.of(lengths.numpy())
    is_item = torch.arange(vectors.shape[1]) < lengths[:, None]
    encoded = torch.zeros_like(vectors)
    encoded[is_item] = model(vectors[is_item], rows)
    return encoded


def plain_layers(model):
    """Torch's own encoder layers, in float64, with the weights of a pre-norm model's blocks."""
    layers = []
    for block in model.blocks:
        layer = torch.nn.TransformerEncoderLayer(
            WIDTH, 2, 4 * WIDTH, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True
        ).double()
        with torch.no_grad():
            layer.self_attn.in_proj_weight.copy_(block.qkv.weight)
            layer.self_attn.out_proj.weight.copy_(block.out.weight)
            layer.self_attn.in_proj_bias.zero_()
            layer.self_attn.out_proj.bias.zero_()
        layer.linear1, layer.linear2 = block.expand, block.contract
        layer.norm1, layer.norm2 = block.norms
        layers.append(layer.train())
    return layers
