"""What holds for every user encoder."""

import collections

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipeline.data import files
from pipeline.models import users
from pipeline.models.rows import Rows
from tests.models.encoding import LENGTH, SETTINGS, WIDTH, encode, encoder, histories

ALL = pytest.mark.parametrize("name", users.USER_ENCODERS)
CAUSAL = pytest.mark.parametrize("name", [n for n in users.USER_ENCODERS if n != "bert4rec"])


@CAUSAL
@pytest.mark.parametrize("first", range(1, LENGTH))
def test_the_future_does_not_change_the_past(name, first):
    model = encoder(name)
    vectors, _ = histories()
    lengths = torch.full((5,), LENGTH)
    changed = vectors.clone()
    changed[:, first:] += torch.arange(WIDTH)  # not a constant, which a LayerNorm would not see
    before, after = encode(model, vectors, lengths), encode(model, changed, lengths)
    assert torch.equal(before[:, :first], after[:, :first])
    assert not torch.allclose(before[:, first], after[:, first])


@ALL
def test_the_last_query_depends_on_every_item_and_on_their_order(name):
    model, rows = encoder(name), Rows.of(np.array([LENGTH]))
    vectors = histories(1)[0][0]
    whole = model.last(vectors, rows)
    for place in range(LENGTH):
        changed = vectors.clone()
        changed[place] += torch.arange(WIDTH)
        assert not torch.allclose(model.last(changed, rows), whole), place
    assert not torch.allclose(model.last(vectors[[1, 0, 2, 3, 4, 5]], rows), whole)


@ALL
def test_neighbours_and_their_lengths_do_not_matter(name):
    model = encoder(name)
    vectors, lengths = histories()
    together = encode(model, vectors, lengths)
    last = model.last(
        torch.cat([own[:n] for own, n in zip(vectors, lengths, strict=True)]),
        Rows.of(lengths.numpy()),
    )
    for row, length in enumerate(lengths.tolist()):
        own, rows = vectors[row, :length], Rows.of(np.array([length]))
        torch.testing.assert_close(together[row, :length], model(own, rows), rtol=0, atol=1e-12)
        torch.testing.assert_close(last[row], model.last(own, rows)[0], rtol=0, atol=1e-12)


@CAUSAL
@pytest.mark.parametrize("lengths", [[6, 1, 3, 5, 2], [3, 3, 3], [1]])
def test_the_last_query_alone_is_the_last_of_all(name, lengths):
    model, rows = encoder(name), Rows.of(np.array(lengths))
    vectors = torch.randn(sum(lengths), WIDTH, dtype=torch.float64)
    everywhere = model(vectors, rows)
    alone = model.last(vectors, rows)
    torch.testing.assert_close(alone, everywhere[rows.last()], rtol=0, atol=1e-12)


@ALL
def test_a_history_gets_the_gradient_it_has_alone(name):
    model = encoder(name)
    vectors, lengths = histories()
    rows = Rows.of(lengths.numpy())
    packed = vectors[torch.arange(LENGTH) < lengths[:, None]].requires_grad_()
    model(packed, rows).sin().sum().backward()
    for row in range(len(lengths)):
        own = vectors[row, : lengths[row]].clone().requires_grad_()
        model(own, Rows.of(lengths[row : row + 1].numpy())).sin().sum().backward()
        torch.testing.assert_close(packed.grad[rows.owners == row], own.grad, rtol=0, atol=1e-12)


@ALL
def test_dropout_acts_in_training_only(name):
    model = encoder(name)
    vectors, lengths = histories()
    assert torch.equal(encode(model, vectors, lengths), encode(model, vectors, lengths))
    model.train()
    assert not torch.equal(encode(model, vectors, lengths), encode(model, vectors, lengths))


@pytest.mark.parametrize(
    ("name", "places"),
    [  # a block's: of what was attended, and of what the feed-forward layer adds
        ("sasrec", {"dropout": 1, "blocks.0.dropout": 2, "blocks.1.dropout": 2}),
        ("bert4rec", {"dropout": 1, "blocks.0.dropout": 2, "blocks.1.dropout": 2}),
        ("gru4rec", {"dropout": 1}),
        ("nextitnet", {"dropout": 1}),
        ("hstu", {"dropout": 1, "blocks.0.dropout": 1, "blocks.1.dropout": 1}),
    ],
)
def test_dropout_acts_at_each_of_its_places(name, places, monkeypatch):
    model, real = encoder(name).train(), F.scaled_dot_product_attention
    acted, of_weights = collections.Counter(), []
    for part, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout):
            assert module.p == 0.1
            module.register_forward_hook(lambda *_, part=part: acted.update([part]))

    def attention(*args, **kwargs):
        of_weights.append(kwargs.get("dropout_p", 0.0))
        return real(*args, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)
    encode(model, *histories())
    assert acted == places
    model.eval()
    encode(model, *histories())
    # Of two blocks that attend by softmax, each pair's weight too, and nothing in evaluation.
    assert of_weights == ([0.1, 0.1, 0.0, 0.0] if name in ("sasrec", "bert4rec") else [])


@pytest.mark.parametrize("name", ["sasrec", "bert4rec", "hstu"])
def test_a_width_that_heads_do_not_divide_stops(name):
    with pytest.raises(files.Stop, match=r"width \(7\) must be divisible by heads \(2\)"):
        users.build(name, 7, LENGTH, SETTINGS)


def test_a_user_encoder_without_settings_stops():
    some = SETTINGS.model_copy(update={"hstu": None})
    assert users.build("sasrec", WIDTH, LENGTH, some).state_dict().keys()
    with pytest.raises(files.Stop, match=r"params.yaml: user_encoders: hstu is missing; give its"):
        users.build("hstu", WIDTH, LENGTH, some)


def test_an_unknown_user_encoder_stops_with_those_there_are():
    known = r"'sasre' is unknown.*\['sasrec', 'bert4rec', 'gru4rec', 'nextitnet', 'hstu'\]"
    with pytest.raises(files.Stop, match=known):
        users.build("sasre", WIDTH, LENGTH, SETTINGS)
