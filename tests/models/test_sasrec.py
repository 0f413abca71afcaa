import math

import pytest
import torch

from pipeline.models.sasrec import Sasrec
from tests.models.encoding import LENGTH, SETTINGS, WIDTH, encode, encoder, histories, plain_layers

NINEREC = SETTINGS.sasrec
PRE = NINEREC.model_copy(update={"norm": "pre", "activation": "gelu"})
BOTH = pytest.mark.parametrize("settings", [NINEREC, PRE], ids=["post", "pre"])


def sasrec(settings):
    return encoder("sasrec", settings=SETTINGS.model_copy(update={"sasrec": settings}))


def plain_norm(x, norm):
    """LayerNorm of one vector, written out, with NineRec's epsilon."""
    mean = x.mean()
    variance = ((x - mean) ** 2).mean()
    return (x - mean) / torch.sqrt(variance + 1e-6) * norm.weight + norm.bias


def plain_ninerec(model, items, settings):
    """NineRec's SASRec for one user: rows padded on the left, an additive mask of -1e9.

    Every head and slot on its own; the pad's vectors are arbitrary, as a pad item's are.
    """
    n, D, H = len(items), WIDTH, settings.heads
    x = torch.full((LENGTH, D), 0.7, dtype=torch.float64)
    x[LENGTH - n :] = items
    is_pad = [slot < LENGTH - n for slot in range(LENGTH)]
    x = torch.stack(
        [plain_norm(x[s] + model.positions.weight[s], model.norm) for s in range(LENGTH)]
    )
    for block in model.blocks:
        q, k, v = (x @ w.T for w in block.qkv.weight.split(D))
        mixed = torch.zeros(LENGTH, D, dtype=torch.float64)
        for head in range(H):
            own = slice(head * D // H, (head + 1) * D // H)
            for row in range(LENGTH):
                scores = []
                for column in range(LENGTH):
                    hidden = is_pad[column] or column > row
                    score = q[row, own] @ k[column, own] / math.sqrt(D / H)
                    scores.append(score + (-1e9 if hidden else 0.0))
                mixed[row, own] = torch.softmax(torch.stack(scores), 0) @ v[:, own]
        x = x + mixed @ block.out.weight.T
        x = torch.stack([plain_norm(one, block.norms[0]) for one in x])
        fed = torch.relu(x @ block.expand.weight.T + block.expand.bias)
        x = x + fed @ block.contract.weight.T + block.contract.bias
        x = torch.stack([plain_norm(one, block.norms[1]) for one in x])
    return x[LENGTH - n :]


def test_the_post_norm_preset_is_ninerecs_left_padded_sasrec():
    model = sasrec(NINEREC)
    vectors, lengths = histories()
    with torch.no_grad():
        encoded = encode(model, vectors, lengths)
        for row, length in enumerate(lengths.tolist()):
            expected = plain_ninerec(model, vectors[row, :length], NINEREC)
            torch.testing.assert_close(encoded[row, :length], expected, rtol=0, atol=1e-10)


def test_it_starts_as_ninerecs_does_but_for_queries_keys_and_values():
    torch.manual_seed(0)
    model = Sasrec(64, 20, NINEREC)
    for block in model.blocks:
        assert block.qkv.bias is None
        assert block.out.bias is None
        assert not block.expand.bias.any()
        assert not block.contract.bias.any()
        assert {norm.eps for norm in block.norms} == {1e-6}
    assert model.norm.eps == 1e-6
    # Xavier: variance 2 / (fan in + fan out); the positions' too.
    # Normal, not uniform, whose largest is 3 ** 0.5 standard deviations.
    assert model.positions.weight.abs().max() > 3 * (2 / 84) ** 0.5
    assert model.positions.weight.std().item() == pytest.approx((2 / 84) ** 0.5, rel=0.1)
    assert model.blocks[0].expand.weight.std().item() == pytest.approx((2 / 320) ** 0.5, rel=0.1)
    # One layer of 64 to 3 * 64 where NineRec has three of 64 to 64.
    assert model.blocks[0].qkv.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.1)


@BOTH
def test_positions_count_from_the_end(settings):
    model = sasrec(settings)
    vectors, _ = histories(1)
    for length in (1, 4, LENGTH):
        used = []
        hook = model.positions.register_forward_hook(
            lambda *found, used=used: used.append(found[1][0])
        )
        encode(model, vectors[:, :length], torch.tensor([length]))
        hook.remove()
        assert used[0].tolist() == list(range(LENGTH - length, LENGTH))
    # So the last item of any history meets the same position, and the first ones are unused.
    encode(model, vectors[:, :3], torch.tensor([3])).sum().backward()
    moved = model.positions.weight.grad.abs().sum(1) > 0
    assert moved.tolist() == [False] * 3 + [True] * 3


def test_the_pre_norm_form_is_plain_transformer_layers_with_a_norm_at_the_end():
    model = sasrec(PRE)
    vectors, _ = histories(1)
    causal = torch.nn.Transformer.generate_square_subsequent_mask(LENGTH, dtype=torch.float64)
    x = vectors + model.positions.weight
    for layer in plain_layers(model):
        x = layer(x, src_mask=causal)
    expected = torch.nn.functional.layer_norm(x, (WIDTH,), model.norm.weight, model.norm.bias, 1e-6)
    found = encode(model, vectors, torch.tensor([LENGTH]))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
