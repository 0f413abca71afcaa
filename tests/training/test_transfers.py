"""Runs that begin with a source's model: what they take from it, and what stays their own."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.content import encoders, store
from pipeline.data import files
from pipeline.training import loop, objective
from tests.training.conftest import POINT, run_in, vectors_of, work

TRANSFERS = {
    "frozen_transfer": "frozen",
    "tuned_transfer": "end2end",
    "end2end_transfer": "end2end",
    "frozen_zeroshot": "frozen",
    "tuned_zeroshot": "end2end",
}


@pytest.fixture
def transfer(target, public, pretrained):
    """Build a run that starts from the source's model, as the stage does."""

    def build(run, **changes):
        folder, embedded = pretrained[TRANSFERS[run]]
        return work(run, target, public, pretrained=folder, embedded=embedded, **changes)

    return build


@pytest.mark.parametrize("run", TRANSFERS)
def test_a_transfer_starts_with_the_sources_head_and_user_encoder(run, transfer, pretrained):
    made = transfer(run)
    model = made.start(0)
    saved = load_file(pretrained[TRANSFERS[run]][0] / "model.safetensors")
    own = dict(model.named_parameters())
    assert {"users.positions.weight", "tower.head.heads.text.missing"} <= set(own)
    assert all(torch.equal(saved[name], value) for name, value in own.items())


@pytest.mark.parametrize("run", TRANSFERS)
def test_standardisation_is_of_the_targets_own_starting_embeddings(run, transfer, pretrained):
    folder, embedded = pretrained[TRANSFERS[run]]
    model = transfer(run).start(0)
    saved = load_file(folder / "model.safetensors")
    for modality in ("text", "image"):
        measured = json.loads((embedded / modality / "passport.json").read_text())["statistics"]
        head = model.tower.head.heads[modality]
        torch.testing.assert_close(head.mean, torch.tensor(measured["mean"]))
        torch.testing.assert_close(head.scale, torch.tensor(measured["sd"]))
        assert not torch.equal(head.mean, saved[f"tower.head.heads.{modality}.mean"])


def test_end_to_end_transfer_goes_on_with_the_tuned_encoders(
    transfer, pretrained, public, tmp_path
):
    made = transfer("end2end_transfer")
    model = made.start(0)
    before = vectors_of(made, model)
    model = made.join(model, made.unfrozen(0), tmp_path)
    for modality, encoder in model.tower.encoders.items():
        tuned = encoders.load(pretrained["end2end"][0] / "encoder" / modality)
        assert encoders.weights(encoder) == encoders.weights(tuned)
        assert encoders.weights(encoder) != encoders.weights(encoders.load(public / modality))
    # The tuned embeddings are this encoder's: joining changes no item's vector.
    np.testing.assert_allclose(vectors_of(made, model), before, atol=2e-5)


def test_tuned_embeddings_are_not_the_public_ones(pretrained, target):
    tuned, public = store.load(pretrained["end2end"][1]), store.load(target.embedded)
    for modality in ("text", "image"):
        assert np.abs(tuned[modality].vectors - public[modality].vectors).max() > 1e-3


@pytest.mark.parametrize("run", ["frozen_transfer", "tuned_transfer", "end2end_transfer"])
def test_a_transfer_has_a_fresh_optimizer_at_the_beginning_of_its_warm_up(
    run, transfer, pretrained, monkeypatch, tmp_path
):
    first = []
    real = loop.Phase.step

    def watched(phase, batch):
        fresh = len(phase.optimizer.state) == 0
        loss = real(phase, batch)
        if phase.state.epoch == 0 and phase.state.step == 0:
            rates = [group["lr"] / group["peak"] for group in phase.optimizer.param_groups]
            first.append((phase.plan.phase, fresh, rates))
        return loss

    monkeypatch.setattr(loop.Phase, "step", watched)
    transfer(run, training__warmup_steps=4, end2end__warmup_steps=4).train(
        POINT, 0, tmp_path / "own"
    )
    assert first[0] == ("probe", True, [0.25])
    # The encoders' group warms up too.
    assert first[1:] == ([("joint", True, [0.25, 0.25])] if run == "end2end_transfer" else [])
    kept = {path.name for path in pretrained[TRANSFERS[run]][0].rglob("*")}
    assert not any("state" in name or "optim" in name for name in kept)


@pytest.mark.parametrize("run", ["frozen_zeroshot", "tuned_zeroshot"])
def test_zero_shot_trains_nothing(run, transfer, pretrained, monkeypatch, tmp_path):
    monkeypatch.setattr(loop.Phase, "step", None)
    made = transfer(run, seeds=[3, 4])
    out = run_in(tmp_path, made)
    saved = load_file(pretrained[TRANSFERS[run]][0] / "model.safetensors")
    ours = load_file(out / "model.safetensors")
    assert set(ours) == set(saved)
    for name, value in saved.items():
        assert torch.equal(ours[name], value) != (".mean" in name or ".scale" in name), name
    cost = files.read_json(tmp_path / "cost.json")
    assert (cost["trained_parameters"], cost["trials"], cost["epochs"]) == (0, 0, 0)
    described = files.read_json(out / "run.json")
    assert (described["best_epoch"], described["epochs"], described["capped"]) == (0, 0, False)
    hr, ndcg = objective.validate(made.start(0), made.split, 16)
    assert described["valid"] == {"hr@10": hr, "ndcg@10": ndcg}


def test_runs_from_other_starts_share_no_probe(transfer, target, public, tmp_path):
    frozen, tuned, joint = (
        transfer(run).probes(tmp_path)
        for run in ("frozen_transfer", "tuned_transfer", "end2end_transfer")
    )
    assert tuned == joint
    assert len({frozen, tuned, work("frozen", target, public).probes(tmp_path)}) == 3


def test_an_end_to_end_run_leaves_the_public_encoders_as_they_are(
    target, public, pretrained, tmp_path
):
    before = files.sha256(public)
    tuned = files.sha256(pretrained["end2end"][0])
    run_in(tmp_path / "a", work("end2end", target, public))
    folder, embedded = pretrained["end2end"]
    made = work("end2end_transfer", target, public, pretrained=folder, embedded=embedded)
    run_in(tmp_path / "b", made)
    assert files.sha256(public) == before
    assert files.sha256(folder) == tuned


def test_what_an_end_to_end_source_model_learned_is_in_its_encoders(pretrained, public):
    for modality, block in [("text", "encoder.layer."), ("image", "resblocks.")]:
        tuned = encoders.load(pretrained["end2end"][0] / "encoder" / modality).state_dict()
        start = encoders.load(public / modality).state_dict()
        changed = {name for name in start if not torch.equal(start[name], tuned[name])}
        assert any(f"{block}2." in name for name in changed)
        assert not any(f"{block}{n}." in name for name in changed for n in (0, 1))
