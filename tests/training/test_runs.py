import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.content import embed, encoders
from pipeline.content.text import SentenceEncoder
from pipeline.data import files
from pipeline.models import items
from pipeline.training import loop, runs, schedule
from pipeline.training.checkpoint import Keeper
from pipeline.training.inputs import Inputs
from tests.small_domains import NEGATIVES, settings
from tests.training.conftest import POINT, RATE, counted_steps, run_in, vectors_of, work

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("content", ["text", "image", "both"])
def test_the_encoder_joins_without_changing_a_vector(content, target, public, tmp_path):
    made = work("end2end", target, public, content)
    model = made.start(0)
    before = vectors_of(made, model)
    joined = made.join(model, made.unfrozen(0), tmp_path)
    assert sorted(joined.tower.present) == sorted(made.embedded)
    np.testing.assert_allclose(vectors_of(made, joined), before, atol=2e-5)
    assert joined.users is model.users
    assert joined.tower.head is model.tower.head
    assert joined.tower.modality_dropout == model.tower.modality_dropout == 0.1


def test_the_probe_of_an_end_to_end_run_is_the_frozen_run(target, public, tmp_path):
    frozen = work("frozen", target, public).train(POINT, 0, tmp_path / "one" / "own")
    end2end = work("end2end", target, public).train(POINT, 0, tmp_path / "other" / "own")
    ours, theirs = (next(iter(one.phases.values())) for one in (frozen, end2end))
    assert ours.curve == theirs.curve
    joint = end2end.last
    assert (joint.curve[0].epoch, joint.curve[0].phase) == (0, "joint")
    # Its start is the probe's best epoch.
    assert (joint.curve[0].hr, joint.curve[0].ndcg) == (ours.best.hr, ours.best.ndcg)
    assert list(end2end.phases) == ["probe-0-0.01-0.01", "joint-0-0.01-0.01-0.001"]


def test_a_frozen_and_an_end_to_end_run_train_their_common_probe_once(
    target, public, monkeypatch, tmp_path
):
    apart = work("end2end", target, public).train(POINT, 0, tmp_path / "apart" / "own")
    frozen = work("frozen", target, public).train(POINT, 0, tmp_path / "frozen")
    steps = counted_steps(monkeypatch)
    end2end = work("end2end", target, public).train(POINT, 0, tmp_path / "end2end")
    assert set(steps) == {"joint"}
    assert next(iter(end2end.phases.values())) == frozen.last
    ours, theirs = end2end.model.state_dict(), apart.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"width": 4}},
        {"tower__fusion": "concat"},
        {"training__batch_users": 8},
        {"protocol__mask": "none"},
    ],
)
def test_runs_that_differ_share_no_probe(changes, target, public, tmp_path):
    one, same = (work(run, target, public) for run in ("frozen", "end2end"))
    assert one.probes(tmp_path / "own") == same.probes(tmp_path / "own")
    for other in (
        work("frozen", target, public, **changes),
        work("frozen", target, public, "text"),
        work("frozen_paper", target, public),
    ):
        assert one.probes(tmp_path / "own") != other.probes(tmp_path / "own")


@pytest.mark.parametrize("content", ["text", "image", "both"])
def test_kept_activations_change_no_curve_and_no_vector(content, target, public, tmp_path):
    done = {}
    for cache in ("off", "required"):
        changes = {"machine__prefix_cache": cache, "end2end__epochs": 3, "end2end__patience": 9}
        made = work("end2end", target, public, content, **changes)
        trained = made.train(POINT, 0, tmp_path / cache / "own")
        done[cache] = trained.last.curve, vectors_of(made, trained.model)
        assert (made.prefix_seconds > 0) == (cache == "required")
    (plain, plain_vectors), (kept, kept_vectors) = done.values()
    assert [row.loss for row in kept] == pytest.approx([row.loss for row in plain], rel=1e-5)
    assert [row.hr for row in kept] == pytest.approx([row.hr for row in plain], abs=0.026)
    np.testing.assert_allclose(kept_vectors, plain_vectors, atol=1e-3)


def test_too_many_layers_stop_before_the_first_phase(target, public, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "fit", None)
    made = work("end2end", target, public, end2end__trainable={"layers": 7})
    with pytest.raises(files.Stop, match=r"layers is 7, but '.*' has 3 blocks. Give 0 to 3"):
        made.train(POINT, 0, tmp_path / "own")


def test_a_family_that_cannot_be_divided_stops_before_the_first_phase(
    target, public, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "fit", None)
    monkeypatch.setattr(SentenceEncoder, "can_divide", False)
    made = work("end2end", target, public, "text", machine__prefix_cache="required")
    with pytest.raises(files.Stop, match="prefix_cache is 'required', but the blocks of '"):
        made.train(POINT, 0, tmp_path / "own")


def test_without_probe_the_encoder_trains_from_the_start_at_the_points_rate(
    target, public, tmp_path
):
    made = work(
        "end2end",
        target,
        public,
        end2end__probe=False,
        end2end__learning_rate=0.005,
        search={"learning_rate": [], "weight_decay": [], "encoder_learning_rate": []},
    )
    assert made.points() == [runs.grid.Point(0.005, 0.01, 1e-3)]
    trained = made.train(POINT, 0, tmp_path / "own")
    assert [phase.curve[0].phase for phase in trained.phases.values()] == ["joint"]
    assert trained.last.curve[0].learning_rate == RATE


def test_each_phase_has_its_own_plan(target, public):
    own = {"epochs": 3, "patience": 4, "patience_steps": 5, "validate_every": 6, "warmup_steps": 7}
    joint = {"epochs": 8, "patience": 9, "patience_steps": 1, "validate_every": 2}
    joint |= {"warmup_steps": 11, "learning_rate": 0.75, "encoder_weight_decay": 0.375}
    changes = {f"training__{name}": value for name, value in own.items()}
    changes |= {f"end2end__{name}": value for name, value in joint.items()}
    changes |= {"training__decays": 2, "protocol__select": "ndcg@10", "training__loss": "bce"}
    made = work("end2end", target, public, **changes)
    point = runs.grid.Point(0.5, 0.25, 0.125)
    common = {
        "loss": "bce", "negatives": NEGATIVES, "batch_users": 16, "decays": 2, "select": "ndcg@10",
        "weight_decay": 0.25, "encoder_learning_rate": 0.125, "encoder_weight_decay": 0.375,
    }  # fmt: skip
    probe = schedule.Plan(phase="probe", learning_rate=0.5, **common, **own)
    assert made.plan(point, joint=False) == probe
    assert made.plan(point, joint=True) == schedule.Plan(phase="joint", **common | joint)
    # A frozen run is the same phase, whatever stands there for an encoder that it has not.
    del changes["end2end__encoder_weight_decay"]
    frozen = work("frozen", target, public, **changes).plan(point, joint=False)
    assert frozen == probe._replace(encoder_weight_decay=0.0)


def test_a_checkpoint_is_of_one_state_of_all_code_that_a_run_is_made_by():
    code = (
        "import sys, pipeline.training.trials as _\n"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('pipeline.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    read = [Path(name) for name in done.stdout.split()]
    assert len(read) > 50
    assert [p for p in read if not any(p.is_relative_to(part) for part in runs.CODE)] == []


@pytest.mark.parametrize(("layers", "blocks"), [(0, set()), (1, {"2"}), (2, {"1", "2"})])
def test_only_the_trainable_blocks_are_given_to_the_optimizer(
    layers, blocks, target, public, tmp_path
):
    made = work("end2end", target, public, "text", end2end__trainable={"layers": layers})
    model = made.join(made.start(0), made.unfrozen(0), tmp_path)
    phase = loop.Phase(model, made.plan(POINT, joint=True), 0, Keeper(tmp_path, 60))
    held = {id(p) for group in phase.optimizer.param_groups for p in group["params"]}
    names = {n for n, p in model.named_parameters() if id(p) in held and "encoders" in n}
    assert {n.split("encoder.layer.")[1][0] for n in names} == blocks
    assert len(phase.optimizer.param_groups) == (2 if blocks else 1)
    if blocks:
        assert phase.optimizer.param_groups[1]["weight_decay"] == 0.0
        assert phase.optimizer.param_groups[1]["peak"] == POINT.encoder_learning_rate
    rest = [n for n, _ in model.named_parameters() if "encoders" not in n]
    assert len(phase.optimizer.param_groups[0]["params"]) == len(rest)
    assert phase.optimizer.param_groups[0]["weight_decay"] == POINT.weight_decay != 0


def test_an_encoders_first_step_moves_no_standardised_dimension_far(target, public, tmp_path):
    """Even one that is constant in all items, as MiniLM's last norm makes some."""
    made = work("end2end", target, public, "text", protocol__select="ndcg@10")
    folder = tmp_path / "encoder"
    encoder = encoders.load(public / "text")
    norm = encoder.blocks()[-1].output.LayerNorm
    norm.weight.data[[1, 5]], norm.bias.data[[1, 5]] = 1e-9, 0.0
    encoders.save(encoder, folder / "text")
    job = embed.Job(encoder, embed.content(encoder, target.prepared, None))
    embed.run(
        {"text": job},
        False,
        tmp_path / "text",
        tmp_path / "cost.json",
        tmp_path / "s",
        made.machine,
    )
    inputs = made.inputs._replace(embeddings=tmp_path / "text", encoders=folder)
    made = runs.Work(made.name, inputs, made.settings)
    model = made.join(made.start(0), made.unfrozen(0), tmp_path / "scratch")
    phase = loop.Phase(model, made.plan(POINT, joint=True), 0, Keeper(tmp_path, 60))
    head, everyone = model.tower.head.heads["text"], np.flatnonzero(made.contents["text"].present)

    def standardised():
        with torch.no_grad():
            vectors = model.tower.encoders["text"].eval()(made.contents["text"].batch(everyone))
            return (vectors - head.mean) / head.scale

    before = standardised()
    feed = loop.batches.Batches(
        made.split.train, made.split.candidates, 16, "in_batch", NEGATIVES, 0
    )
    phase.state.warm = 100  # no warm-up: the full rate
    phase.step(feed.batch(0, 0))
    moved = (standardised() - before).abs().amax(0)
    dead = moved[[1, 5]].max()
    alive = moved[[0, 2, 3, 4]].max()
    assert 0 < dead < 4 * alive


def test_a_frozen_run_leaves_encoders_and_embeddings_as_they_are(target, public, tmp_path):
    before = files.sha256(public), files.sha256(target.embedded), files.sha256(target.prepared)
    out = run_in(tmp_path, work("frozen", target, public))
    assert (files.sha256(public), files.sha256(target.embedded)) == before[:2]
    assert files.sha256(target.prepared) == before[2]
    assert not (out / "encoder").exists()


def test_the_papers_head_is_a_run_of_its_own(target, public):
    model = work("frozen_paper", target, public).start(0)
    head = model.tower.head.heads["text"]
    assert len([one for one in head.layers if isinstance(one, torch.nn.Linear)]) == 1
    assert not head.mean.any()
    assert (head.scale == 1).all()


def test_the_id_run_reads_no_content(target, public):
    made = work("id", target, public)
    assert isinstance(made.start(0).tower, items.IdTower)
    assert made.embedded == {}
    assert made.inputs.decisive() == [target.prepared]


def test_the_same_seed_starts_the_same_and_another_one_does_not(target, public):
    made = work("frozen", target, public)
    one, again, other = (vectors_of(made, made.start(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_full_softmax_with_an_end_to_end_run_stops_before_anything_is_read(public):
    made = settings(training__loss="full_softmax")
    nowhere = Inputs(public / "absent")
    with pytest.raises(
        files.Stop, match=r"full_softmax needs every item's vector.*in_batch, which.*or samp"
    ):
        runs.Work(runs.Name("end2end", "t", "text", "sasrec"), nowhere, made)


@pytest.mark.parametrize("loss", ["bce", "full_softmax"])
def test_the_other_losses_train_a_frozen_run(loss, target, public, tmp_path):
    trained = work("frozen", target, public, training__loss=loss).train(POINT, 0, tmp_path / "own")
    assert trained.last.epochs == 2


def test_bce_trains_an_end_to_end_run(target, public, tmp_path):
    trained = work("end2end", target, public, training__loss="bce").train(
        POINT, 0, tmp_path / "own"
    )
    assert len(trained.phases) == 2
