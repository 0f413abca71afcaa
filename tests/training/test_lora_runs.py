"""Runs whose encoders learn by adapters: what moves, what is written, killed and cached ones."""

import numpy as np
import pytest
import torch

from pipeline.content import encoders, lora
from pipeline.data import files
from pipeline.training import grid, loop, outputs
from tests.training.conftest import contents, embed_all, run_in, work
from tests.training.test_checkpoint import KilledError, kill_at

POINT = grid.Point(1e-2, 0.01, 1e-2)
ADAPTERS = {"lora": {"rank": 2, "alpha": 4, "dropout": 0.0, "layers": 1}}
# So that the best epoch is one in which the encoders have learned.
LEARNING = {
    "end2end__probe": False,
    "end2end__epochs": 3,
    "end2end__patience": 9,
    "protocol__select": "ndcg@10",
}


@pytest.fixture
def adapted(target, public):
    """A run of which adapters train."""

    def build(run="end2end", content="both", trainable=ADAPTERS, domain=target, **changes):
        return work(run, domain, public, content, end2end__trainable=trainable, **changes)

    return build


def vectors_of(model):
    return model.item_vectors(np.arange(25) > 0, 16)


def test_adapters_move_and_nothing_else_of_an_encoder(adapted, tmp_path):
    made = adapted(**LEARNING)
    start = made.unfrozen(0)
    trained = made.train(POINT, 0, tmp_path / "own")
    assert trained.last.best.epoch > 0
    for modality, encoder in trained.model.tower.encoders.items():
        before, after = start[modality].state_dict(), encoder.state_dict()
        assert before.keys() == after.keys()
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved == {name for name, p in encoder.named_parameters() if p.requires_grad}
        assert all(".lora_" in name for name in moved)


def test_adapters_begin_as_their_seed_draws_them(adapted):
    one, again, other = (
        encoders.weights(adapted(content="text").unfrozen(seed)["text"]) for seed in (3, 3, 4)
    )
    assert one == again != other


def test_every_training_draws_its_adapters_by_its_own_seed(adapted, tmp_path):
    # With one epoch and no rate for the encoder, adapters stay as they were drawn.
    made = adapted(content="text", end2end__epochs=1)
    for seed in (3, 5):
        trained = made.train(grid.Point(1e-2, 0.0, 0.0), seed, tmp_path / str(seed))
        drawn = made.unfrozen(seed)["text"]
        assert encoders.weights(trained.model.tower.encoders["text"]) == encoders.weights(drawn)


def test_adapters_are_the_encoders_group_of_the_optimizer(adapted, monkeypatch, tmp_path):
    seen = []
    real = loop.Phase.step

    def watched(phase, batch):
        names = {id(p): name for name, p in phase.model.named_parameters()}
        groups = phase.optimizer.param_groups
        seen.append([({names[id(p)] for p in g["params"]}, g["peak"]) for g in groups])
        return real(phase, batch)

    monkeypatch.setattr(loop.Phase, "step", watched)
    adapted().train(grid.Point(1e-2, 0.01, 5e-3), 0, tmp_path / "own")
    (_, _), (names, peak) = seen[-1]
    assert peak == 5e-3
    assert len(names) > 1
    assert all(name.startswith("tower.encoders.") and ".lora_" in name for name in names)


def test_the_written_encoders_give_the_models_vectors(adapted, public, tmp_path):
    made = adapted(**LEARNING)
    trained = made.train(POINT, 0, tmp_path / "own")
    before = vectors_of(trained.model)
    outputs.write(tmp_path / "out", made, trained, 0)
    np.testing.assert_array_equal(vectors_of(trained.model), before)  # it is left as it was
    for modality, encoder in trained.model.tower.encoders.items():
        again = encoders.load(tmp_path / "out" / "encoder" / modality, modality)
        content = made.contents[modality]
        batch = content.batch(np.flatnonzero(content.present))
        again.unfreeze(1)  # what is kept was made for as much
        with torch.no_grad():
            torch.testing.assert_close(again(batch), encoder.eval()(batch), rtol=1e-5, atol=1e-5)
        start = encoders.load(public / modality).state_dict()
        tuned = again.state_dict()
        assert start.keys() == tuned.keys()
        changed = {name for name in start if not torch.equal(start[name], tuned[name])}
        top = {"text": "encoder.layer.2.", "image": "resblocks.2."}[modality]
        assert changed
        assert all(top in name and name.endswith("weight") for name in changed)


def test_a_transfer_goes_on_from_what_adapters_made(adapted, source, target, public, tmp_path):
    learned = run_in(tmp_path / "source", adapted(domain=source, **LEARNING))
    embedded = embed_all(target, learned / "encoder", tmp_path / "tuned")
    given = {"pretrained": learned, "embedded": embedded}
    made = adapted("end2end_transfer", **given)
    model = made.start(0)
    before = vectors_of(model)
    joined = made.join(model, made.unfrozen(0), tmp_path)
    np.testing.assert_allclose(vectors_of(joined), before, atol=2e-5)
    for modality, encoder in joined.tower.encoders.items():
        plain = encoders.load(learned / "encoder" / modality)
        assert encoders.weights(plain) != encoders.weights(encoders.load(public / modality))
        assert encoders.weights(lora.merged(encoder)) == encoders.weights(plain)


@pytest.mark.parametrize("steps", [4, 8, 11])
def test_killed_it_ends_with_the_same_bytes(steps, adapted, monkeypatch, tmp_path):
    dropping = {"lora": ADAPTERS["lora"] | {"dropout": 0.3}}
    changes = {"end2end__epochs": 3, "end2end__patience": 9, "machine__checkpoint_seconds": 0}
    made = adapted(trainable=dropping, **changes)
    whole = contents(run_in(tmp_path / "whole", made))
    with monkeypatch.context() as killing, pytest.raises(KilledError):
        kill_at(killing, steps)  # the probe has 6 steps, then there are 9 with the encoders
        run_in(tmp_path / "killed", adapted(trainable=dropping, **changes))
    torch.rand(steps)  # a new process has drawn other numbers before
    ended = contents(run_in(tmp_path / "killed", adapted(trainable=dropping, **changes)))
    assert ended.keys() == whole.keys()
    assert [name for name in whole if whole[name] != ended[name]] == []


@pytest.mark.parametrize("content", ["text", "image", "both"])
def test_kept_activations_change_no_vector(content, adapted, tmp_path):
    done = {}
    for cache in ("off", "required"):
        made = adapted(content=content, machine__prefix_cache=cache, **LEARNING)
        trained = made.train(POINT, 0, tmp_path / cache / "own")
        assert (made.prefix_seconds > 0) == (cache == "required")
        done[cache] = trained.last.curve, vectors_of(trained.model)
    (plain, plain_vectors), (kept, kept_vectors) = done.values()
    assert [row.loss for row in kept] == pytest.approx([row.loss for row in plain], rel=1e-5)
    np.testing.assert_allclose(kept_vectors, plain_vectors, atol=1e-3)


def test_too_many_layers_stop_before_the_first_phase(adapted, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "fit", None)
    made = adapted(trainable={"lora": ADAPTERS["lora"] | {"layers": 7}})
    with pytest.raises(files.Stop, match=r"trainable.lora.layers is 7, but '.*' has 3 blocks"):
        made.train(POINT, 0, tmp_path / "own")
