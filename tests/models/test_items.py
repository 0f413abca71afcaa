import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipeline.content import store
from pipeline.models import items, recommender
from pipeline.models.sasrec import Sasrec
from pipeline.training import loop
from pipeline.training.checkpoint import Keeper
from tests.small_domains import LENGTH, PLAN, SASREC, chain, divided, feed

WIDTH = 8
HEAD = items.HeadSettings(standardise="dimension", layers=2, expansion=4)
ALL = torch.arange(1, 8)  # the world's items: 3 says nothing, 5 has no text, 6 no cover


def head_settings(**changes):
    return HEAD.model_copy(update=changes)


def towers(world, fusion="sum", modality_dropout=0.0, modalities=("image", "text")):
    """A frozen and an end-to-end tower with equal heads."""
    torch.manual_seed(0)
    embedded = {m: world.embedded[m] for m in modalities}
    head = items.Fusion(embedded, WIDTH, HEAD, fusion).double()
    for one in head.heads.values():
        torch.nn.init.normal_(one.missing)
    frozen = items.FrozenTower(embedded, copy.deepcopy(head), modality_dropout).double()
    encoders = {m: world.encoders[m] for m in modalities}
    contents = {m: world.contents[m] for m in modalities}
    return frozen, items.EndToEndTower(encoders, contents, head, modality_dropout)


def test_a_tower_encodes_items_of_like_length_together(world, monkeypatch):
    """A GPU's encoders do not divide a batch: the tower gives them so many items at once."""
    _, tower = towers(world, modalities=("text",))
    content, given = tower.contents["text"], []
    wanted = np.flatnonzero(content.present)
    whole, batch = tower.content("text", wanted), content.batch
    monkeypatch.setattr(content, "batch", lambda some: given.append(some.tolist()) or batch(some))
    monkeypatch.setattr(tower, "bucket", lambda lengths: 2)
    torch.testing.assert_close(tower.content("text", wanted), whole)
    order = wanted[np.argsort(content.lengths[wanted], kind="stable")].tolist()
    assert order != sorted(order), "lengths differ"
    assert given == [order[first : first + 2] for first in range(0, len(order), 2)]


@pytest.mark.parametrize(
    ("where", "lengths", "expected"),
    [("cuda", [3, 5, 3], items.BUCKET), ("cuda", [3, 3, 3], 3), ("cpu", [3, 5, 3], 3)],
)
def test_a_gpu_pads_a_bucket_to_one_length(where, lengths, expected):
    tower = SimpleNamespace(where=torch.device(where))
    assert items.EndToEndTower.bucket(tower, np.array(lengths)) == expected


def model_of(tower):
    torch.manual_seed(1)
    return recommender.Recommender(tower, Sasrec(WIDTH, LENGTH, SASREC).double())


@pytest.mark.parametrize("fusion", ["sum", "concat", "gated"])
def test_frozen_and_end_to_end_give_the_same_item_vectors_before_the_first_step(world, fusion):
    frozen, end2end = towers(world, fusion)
    end2end.encoders["text"].unfreeze(1)
    for mode in (True, False):
        ours, theirs = frozen.train(mode)(ALL), end2end.train(mode)(ALL)
        assert ours.shape == (7, WIDTH)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_one_modality_alone_is_its_head_whatever_the_fusion(world, modality):
    frozen, end2end = towers(world, "gated", modalities=(modality,))
    torch.testing.assert_close(frozen(ALL), end2end(ALL), rtol=0, atol=1e-12)
    has = torch.tensor(world.embedded[modality].present)[ALL]
    head = frozen.head.heads[modality]
    expected = head(frozen.get_buffer(f"vectors_{modality}")[ALL[has]])
    assert torch.equal(frozen(ALL)[has], expected)
    assert torch.equal(frozen(ALL)[~has], head.missing.expand(int((~has).sum()), -1))


def test_at_encoder_learning_rate_0_the_training_curves_are_the_same(world, tmp_path):
    histories = chain(40, 7, seed=0, predictable=0.7)
    parts = divided(histories, 7)
    plan = PLAN._replace(encoder_learning_rate=0.0, encoder_weight_decay=0.1, batch_users=16)
    frozen, end2end = towers(world, modality_dropout=0.3)
    for encoder in end2end.encoders.values():
        encoder.unfreeze("all")
    fitted = [
        loop.fit(model_of(tower), parts, plan, 3, Keeper(tmp_path / name, 60), 4)
        for name, tower in [("frozen", frozen), ("end2end", end2end)]
    ]
    assert len(fitted[0].curve) == 5
    for ours, theirs in zip(fitted[0].curve, fitted[1].curve, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=0, abs=1e-9)
        assert (ours.hr, ours.ndcg, ours.epoch) == (theirs.hr, theirs.ndcg, theirs.epoch)
    assert fitted[0].curve[1].loss != pytest.approx(fitted[0].curve[2].loss, abs=1e-3)


class Counted:
    """Counts what an encoder is given while it stays the encoder it was."""

    def __init__(self, tower, modality):
        self.rows, self.items = [], []
        content, encoder = tower.contents[modality], tower.encoders[modality]
        batch = content.batch
        content.batch = lambda items: self.items.append(items.tolist()) or batch(items)
        encoder.register_forward_hook(lambda *found: self.rows.append(len(found[2])))


def test_a_batch_encodes_each_of_its_items_once_and_never_pad(world, tmp_path):
    _, tower = towers(world)
    model = model_of(tower)
    parts = divided(chain(12, 7, seed=1), 7)
    counted = {m: Counted(tower, m) for m in ("image", "text")}
    fed = feed([row.tolist() for row in np.split(parts.train.items, parts.train.offsets[1:-1])], 7)
    phase = loop.Phase(model, PLAN, 0, Keeper(tmp_path, 60))
    for step in range(fed.steps):
        batch = fed.batch(0, step)
        phase.step(batch)
        for modality, count in counted.items():
            present = world.embedded[modality].present
            wanted = [item for item in batch.items.tolist() if present[item]]
            assert count.items.pop() == wanted
            assert count.rows.pop() == len(wanted) == len(set(wanted))
            assert not count.items
            assert not count.rows


def test_validation_encodes_each_item_once(world):
    _, tower = towers(world)
    counted = Counted(tower, "text")
    model_of(tower).item_vectors(np.arange(8) > 0, batch=3)
    encoded = [item for some in counted.items for item in some]
    assert sorted(encoded) == [1, 2, 4, 6, 7]


def test_below_the_trained_blocks_an_encoder_keeps_its_bytes(world, tmp_path):
    _, tower = towers(world)
    parts = divided(chain(20, 7, seed=1), 7)
    for encoder in tower.encoders.values():
        encoder.unfreeze(1)
    before = {n: t.clone() for n, t in tower.encoders.state_dict().items()}
    trained = {n for n, p in tower.encoders.named_parameters() if p.requires_grad}
    plan = PLAN._replace(encoder_learning_rate=1e-2, epochs=2)
    model = model_of(tower)
    loop.fit(model, parts, plan, 0, Keeper(tmp_path, 60), 4)
    phase = loop.Phase(model, plan, 0, Keeper(tmp_path / "more", 60))
    phase.step(feed([[1, 2, 4, 7], [5, 6, 3, 1]], 7).batch(0, 0))
    after = tower.encoders.state_dict()
    changed = {n for n in before if not torch.equal(before[n], after[n])}
    assert changed <= trained
    assert any("encoder.layer.2." in n for n in changed)
    assert any("resblocks.2." in n for n in changed)
    below = ("layer.0.", "layer.1.", "resblocks.0.", "resblocks.1.", "embeddings", "conv1")
    assert all(any(part in n for n in before) for part in below)
    assert not any(part in n for n in changed for part in below)


def test_a_frozen_tower_learns_its_head_alone(world, tmp_path):
    frozen, _ = towers(world)
    before = {m: e.vectors.copy() for m, e in world.embedded.items()}
    model = model_of(frozen)
    assert {n for n, _ in frozen.named_parameters()} == {
        f"head.{n}" for n, _ in frozen.head.named_parameters()
    }
    fixed = {n: b.clone() for n, b in model.named_buffers()}
    assert {"tower.vectors_text", "tower.head.heads.text.mean"} <= set(fixed)
    loop.fit(model, divided(chain(20, 7, seed=1), 7), PLAN, 0, Keeper(tmp_path, 60), 4)
    assert all(torch.equal(fixed[n], b) for n, b in model.named_buffers())
    for modality, vectors in before.items():
        assert np.array_equal(world.embedded[modality].vectors, vectors)
        assert np.array_equal(frozen.get_buffer(f"vectors_{modality}").numpy(), vectors)


@pytest.mark.parametrize("fusion", ["sum", "concat", "gated"])
def test_fusion_follows_its_formula(world, fusion):
    tower, _ = towers(world, fusion)
    head = tower.head
    parts = {}
    for modality in ("image", "text"):
        one, has = head.heads[modality], world.embedded[modality].present
        vectors = torch.tensor(world.embedded[modality].vectors)
        rows = [one(vectors[i][None])[0] if has[i] else one.missing for i in ALL.tolist()]
        parts[modality] = torch.stack(rows)
    t, v = parts["text"], parts["image"]
    expected = {
        "sum": lambda: t + v,
        "concat": lambda: torch.cat([v, t], 1) @ head.mix.weight.T + head.mix.bias,
        "gated": lambda: head.mix(torch.sigmoid(head.gate(t)) * head.value(v)),
    }[fusion]()
    assert expected.shape == (7, WIDTH)
    torch.testing.assert_close(tower(ALL), expected, rtol=0, atol=1e-12)


def test_an_item_without_any_content_has_both_missing_vectors(world):
    tower, _ = towers(world)
    missing = {m: h.missing for m, h in tower.head.heads.items()}
    only_text = tower.head.heads["text"](tower.get_buffer("vectors_text")[6:7])[0]
    vectors = tower(torch.tensor([3, 6]))
    torch.testing.assert_close(vectors[0], missing["text"] + missing["image"])
    torch.testing.assert_close(vectors[1], only_text + missing["image"])


def test_the_missing_vector_learns(world):
    tower, _ = towers(world)
    tower(torch.tensor([3, 5])).sum().backward()
    # Items 3 and 5 have no text, item 3 has no cover.
    assert tower.head.heads["text"].missing.grad.tolist() == [2.0] * WIDTH
    assert tower.head.heads["image"].missing.grad.tolist() == [1.0] * WIDTH


def test_modality_dropout_hides_one_modality_of_items_that_show_both():
    n = 40_000
    number = np.arange(n + 1)
    both, image, text = (number > 0) & (number % 2 == 0), number % 4 == 1, number % 4 == 3
    present = {"image": both | image, "text": both | text}
    tower = items.ContentTower(present, torch.nn.Identity(), 0.2)
    every = np.arange(1, n + 1)
    draws = np.random.default_rng(0).random((2, n))
    shown = tower.train().shown(every, draws)
    assert (shown["image"] | shown["text"]).all()  # never both hidden, none of an only one
    hidden = ~(shown["image"] & shown["text"])[both[1:]]
    assert hidden.mean() == pytest.approx(0.2, abs=0.01)
    assert (~shown["text"][both[1:]]).mean() == pytest.approx(0.1, abs=0.01)
    for mode in (False, True):  # outside training, or with one modality, all is shown
        alone = items.ContentTower({"text": present["text"]}, torch.nn.Identity(), 0.9)
        found = alone.train(mode).shown(every, draws)["text"]
        assert np.array_equal(found, present["text"][1:])
    for modality, said in tower.eval().shown(every, draws).items():
        assert np.array_equal(said, present[modality][1:])


def embedded_of(vectors):
    vectors = np.asarray(vectors, float)
    present = np.arange(len(vectors)) > 0
    return store.Embedded(vectors, present, *store.statistics(vectors, present))


# Two dimensions with means 2 and 10, standard deviations 1 and 3.
VECTORS = [[0, 0], [1, 7], [3, 13], [1, 13], [3, 7]]


@pytest.mark.parametrize(
    ("standardise", "expected"),
    [
        ("dimension", [(3 - 2) / 1, (13 - 10) / 3]),
        # The global scale is sqrt((1 + 9) / 2) = sqrt(5).
        ("scale", [(3 - 2) / 5**0.5, (13 - 10) / 5**0.5]),
        ("none", [3, 13]),
    ],
)
def test_standardisation_worked_by_hand(standardise, expected):
    head = items.Head(embedded_of(VECTORS), 2, head_settings(standardise=standardise)).double()
    head.layers = torch.nn.Identity()
    found = head(torch.tensor(VECTORS[2:3], dtype=torch.float64))
    assert found[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("standardise", ["dimension", "scale", "none"])
def test_standardisation_is_fixed_and_the_default_head_has_two_layers(standardise):
    head = items.Head(embedded_of(VECTORS), 3, head_settings(standardise=standardise)).double()
    assert {n for n, _ in head.named_buffers()} == {"mean", "scale"}
    shapes = {n: tuple(p.shape) for n, p in head.named_parameters()}
    assert shapes == {
        "layers.0.weight": (12, 2),
        "layers.0.bias": (12,),
        "layers.2.weight": (3, 12),
        "layers.2.bias": (3,),
        "missing": (3,),
    }
    x = torch.tensor(VECTORS[1:], dtype=torch.float64)
    first, second = head.layers[0], head.layers[2]
    standard = (x - head.mean) / head.scale
    hidden = F.gelu(standard @ first.weight.T + first.bias)
    torch.testing.assert_close(head(x), hidden @ second.weight.T + second.bias)


def test_the_papers_head_is_one_layer_with_gelu_on_raw_vectors():
    settings = items.HeadSettings(standardise="none", layers=1, expansion=1)
    head = items.Head(embedded_of(VECTORS), 3, settings).double()
    x = torch.tensor(VECTORS[1:], dtype=torch.float64)
    layer = head.layers[0]
    torch.testing.assert_close(head(x), F.gelu(x @ layer.weight.T + layer.bias))
    assert len(head.layers) == 2


def test_an_item_without_the_modality_begins_as_its_average():
    """At 0, as `sum` then shows the other modality alone."""
    assert not items.Head(embedded_of(VECTORS), 3, HEAD).missing.any()


def test_the_id_tower_is_a_table():
    tower = items.IdTower(5, 3)
    assert torch.equal(tower(torch.tensor([5, 2])), tower.table.weight[[5, 2]])
    assert tower.table.weight.shape == (6, 3)


def test_an_id_tower_begins_with_vectors_of_length_1():
    torch.manual_seed(0)
    lengths = items.IdTower(1000, 64).table.weight.norm(dim=1)
    assert lengths.mean().item() == pytest.approx(1, abs=0.01)
