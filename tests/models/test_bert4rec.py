import numpy as np
import torch

from pipeline.models import items, recommender
from pipeline.models.bert4rec import Bert4rec
from pipeline.models.rows import Rows
from tests.models.encoding import LENGTH, SETTINGS, WIDTH, encode, encoder, histories, plain_layers


def test_it_is_a_plain_transformer_encoder_with_pads_hidden():
    model = encoder("bert4rec")
    vectors, lengths = histories()
    is_pad = torch.arange(LENGTH) >= lengths[:, None]
    # A history and [MASK] have L + 1 positions, the last of them the mask's at inference.
    places = (torch.arange(LENGTH) + LENGTH + 1 - lengths[:, None]).clamp(max=LENGTH)
    x = vectors + model.positions.weight[places]
    for layer in plain_layers(model):
        x = layer(x, src_key_padding_mask=is_pad)
    expected = torch.nn.functional.layer_norm(x, (WIDTH,), model.norm.weight, model.norm.bias, 1e-6)
    found = encode(model, vectors, lengths)
    torch.testing.assert_close(found[~is_pad], expected[~is_pad], rtol=0, atol=1e-10)


def test_an_item_sees_those_after_it():
    model = encoder("bert4rec")
    vectors, _ = histories()
    lengths = torch.full((5,), LENGTH)
    changed = vectors.clone()
    changed[:, 4] += torch.arange(WIDTH)
    before, after = encode(model, vectors, lengths), encode(model, changed, lengths)
    assert not torch.allclose(before[:, 0], after[:, 0])


def test_a_query_is_what_the_mask_after_the_history_is_told():
    model = encoder("bert4rec")
    vectors, lengths = histories()
    for row, length in enumerate(lengths.tolist()):
        own = torch.cat([vectors[row, :length], model.mask[None]])
        expected = model(own, Rows.of(np.array([length + 1])))[-1]
        found = model.last(vectors[row, :length], Rows.of(np.array([length])))[0]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_hidden_item_is_the_masks_vector_and_no_item_s():
    model = recommender.Recommender(items.IdTower(5, WIDTH), encoder("bert4rec")).double().eval()
    vectors = torch.randn(3, WIDTH, dtype=torch.float64)
    rows = Rows.of(np.array([3, 2]))
    hidden = torch.tensor([0, 3, 1, 3, 2])  # 3 is past the vectors: [MASK]
    asked = torch.tensor([1, 3])
    found = model.slots(vectors, hidden, rows, asked)
    put = torch.cat([vectors, model.users.mask[None]])[hidden]
    torch.testing.assert_close(found, model.users(put, rows)[asked], rtol=0, atol=0)
    found.sum().backward()
    assert model.users.mask.grad.abs().sum() > 0


def test_it_begins_with_a_mask_as_long_as_an_item():
    lengths = []
    for seed in range(20):
        torch.manual_seed(seed)
        lengths.append(Bert4rec(64, LENGTH, SETTINGS.bert4rec).mask.norm().item())
    assert abs(np.mean(lengths) - 1) < 0.1


def test_a_model_starts_from_another_ones_mask_and_positions(tmp_path):
    def made(seed):
        torch.manual_seed(seed)
        encoder = Bert4rec(WIDTH, LENGTH, SETTINGS.bert4rec)
        return recommender.Recommender(items.IdTower(5, WIDTH), encoder)

    source, target = made(0), made(1)
    assert not torch.equal(source.users.mask, target.users.mask)
    recommender.save(tmp_path, source, {})
    recommender.load_start(tmp_path, target)
    for name in ("mask", "positions.weight"):
        one, other = (dict(m.users.named_parameters())[name] for m in (source, target))
        assert torch.equal(one, other)
    assert len(target.users.positions.weight) == LENGTH + 1
