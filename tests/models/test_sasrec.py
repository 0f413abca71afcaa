import math

import pytest
import torch

from pipeline.data import files
from pipeline.models.rows import Rows
from pipeline.models.sasrec import Sasrec, SasrecSettings

WIDTH, LENGTH = 8, 6
NINEREC = SasrecSettings(
    blocks=2, heads=2, norm="post", activation="relu", expansion=4, dropout=0.1
)
PRE = NINEREC.model_copy(update={"norm": "pre", "activation": "gelu"})
BOTH = pytest.mark.parametrize("settings", [NINEREC, PRE], ids=["post", "pre"])


def encoder(settings, width=WIDTH):
    torch.manual_seed(0)
    made = Sasrec(width, LENGTH, settings).double().eval()
    for parameter in made.parameters():  # biases and norms too, which begin at 0 and 1
        torch.nn.init.normal_(parameter, std=0.5)
    return made


def histories(n=5, length=LENGTH):
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
    model = encoder(NINEREC)
    vectors, lengths = histories()
    with torch.no_grad():
        encoded = encode(model, vectors, lengths)
        for row, length in enumerate(lengths.tolist()):
            expected = plain_ninerec(model, vectors[row, :length], NINEREC)
            torch.testing.assert_close(encoded[row, :length], expected, rtol=0, atol=1e-10)


def test_it_starts_as_ninerecs_does():
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
    assert model.positions.weight.std().item() == pytest.approx((2 / 84) ** 0.5, rel=0.1)
    assert model.blocks[0].expand.weight.std().item() == pytest.approx((2 / 320) ** 0.5, rel=0.1)


@BOTH
def test_positions_count_from_the_end(settings):
    model = encoder(settings)
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
    model = encoder(PRE)
    vectors, _ = histories(1)
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
    causal = torch.nn.Transformer.generate_square_subsequent_mask(LENGTH, dtype=torch.float64)
    x = vectors + model.positions.weight
    for layer in layers:
        x = layer(x, src_mask=causal)
    expected = torch.nn.functional.layer_norm(x, (WIDTH,), model.norm.weight, model.norm.bias, 1e-6)
    found = encode(model, vectors, torch.tensor([LENGTH]))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_a_width_that_heads_do_not_divide_stops():
    with pytest.raises(files.Stop, match=r"width \(7\) must be divisible by heads \(2\)"):
        Sasrec(7, LENGTH, NINEREC)
