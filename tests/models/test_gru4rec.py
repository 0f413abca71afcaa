import torch

from pipeline.models.gru4rec import Gru4rec
from tests.models.encoding import SETTINGS, WIDTH, encode, encoder, histories


def plain(gru, items):
    """Gated recurrent units written out: one history, layer by layer."""
    x = items
    for layer in range(gru.num_layers):
        into, own = (getattr(gru, f"weight_{name}_l{layer}") for name in ("ih", "hh"))
        h, out = torch.zeros(WIDTH, dtype=torch.float64), []
        for item in x:
            (ri, zi, ni), (rh, zh, nh) = (into @ item).split(WIDTH), (own @ h).split(WIDTH)
            reset, update = torch.sigmoid(ri + rh), torch.sigmoid(zi + zh)
            h = (1 - update) * torch.tanh(ni + reset * nh) + update * h
            out.append(h)
        x = torch.stack(out)
    return x


def test_it_is_a_recurrence_over_each_history():
    model = encoder("gru4rec")
    vectors, lengths = histories()
    found = encode(model, vectors, lengths)
    for row, length in enumerate(lengths.tolist()):
        expected = plain(model.gru, vectors[row, :length])
        torch.testing.assert_close(found[row, :length], expected, rtol=0, atol=1e-10)


def test_it_has_no_biases_and_its_first_layer_begins_as_ninerecs():
    torch.manual_seed(0)
    gru = Gru4rec(64, 20, SETTINGS.gru4rec).gru
    assert not any("bias" in name for name, _ in gru.named_parameters())
    # Xavier's uniform over [192, 64]: standard deviation sqrt(2 / 256); torch's own: 1 / sqrt(192).
    for weight in (gru.weight_ih_l0, gru.weight_hh_l0):
        assert abs(weight.std().item() / (2 / 256) ** 0.5 - 1) < 0.05
    assert abs(gru.weight_ih_l1.std().item() * 192**0.5 - 1) < 0.05
