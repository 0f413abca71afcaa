import torch
from torch.nn import functional as F

from pipeline.models.hstu import Hstu
from tests.models.encoding import LENGTH, SETTINGS, WIDTH, encode, encoder, histories


def silu(x):
    return x / (1 + torch.exp(-x))


def plain(block, x):
    """Equations 1 to 3 of Zhai et al. for one history, pair by pair."""
    first, second = (
        lambda v, norm=norm: F.layer_norm(v, (WIDTH,), norm.weight, norm.bias, 1e-6)
        for norm in block.norms
    )
    u, v, q, k = silu(first(x) @ block.project.weight.T + block.project.bias).split(WIDTH, 1)
    mixed, H = torch.zeros_like(x), block.heads
    for head in range(H):
        own = slice(head * WIDTH // H, (head + 1) * WIDTH // H)
        for row in range(len(x)):
            for column in range(row + 1):
                bias = block.distances.weight[row - column, head]
                weight = silu(q[row, own] @ k[column, own] + bias) / LENGTH
                mixed[row, own] += weight * v[column, own]
    return x + (second(mixed) * u) @ block.out.weight.T + block.out.bias


def test_it_is_pointwise_gated_attention():
    model = encoder("hstu")
    vectors, lengths = histories()
    found = encode(model, vectors, lengths)
    for row, length in enumerate(lengths.tolist()):
        x = vectors[row, :length] + model.positions.weight[LENGTH - length :]
        for block in model.blocks:
            x = plain(block, x)
        expected = F.layer_norm(x, (WIDTH,), model.norm.weight, model.norm.bias, 1e-6)
        torch.testing.assert_close(found[row, :length], expected, rtol=0, atol=1e-10)


def test_no_distance_is_preferred_at_first():
    made = Hstu(WIDTH, LENGTH, SETTINGS.hstu)
    assert all(not block.distances.weight.any() for block in made.blocks)
    assert made.positions.weight.any()


def test_it_starts_with_xaviers_weights_and_no_biases():
    torch.manual_seed(0)
    made = Hstu(64, 20, SETTINGS.hstu)
    # Variance 2 / (fan in + fan out): 20 positions of 64, layers of 64 to 256.
    assert abs(made.positions.weight.std().item() / (2 / 84) ** 0.5 - 1) < 0.05
    for block in made.blocks:
        assert abs(block.project.weight.std().item() / (2 / 320) ** 0.5 - 1) < 0.05
        assert not block.project.bias.any()
        assert not block.out.bias.any()
