import itertools

import numpy as np
import pytest
import torch

from pipeline.data import files
from pipeline.models import items, recommender
from pipeline.models.sasrec import Sasrec
from pipeline.training import loop, losses, objective, schedule
from pipeline.training.checkpoint import Keeper
from tests.small_domains import LENGTH, NEGATIVES, PLAN, SASREC, chain, divided


def small():
    """A domain of three steps an epoch, and a model for it."""
    torch.manual_seed(0)
    settings = SASREC.model_copy(update={"dropout": 0.2})
    model = recommender.Recommender(items.IdTower(30, 8), Sasrec(8, LENGTH, settings))
    return model, divided(chain(40, 30, seed=0, predictable=0.9), 30)


def fit(tmp_path, plan, seed=0, name="work"):
    model, parts = small()
    plan = plan._replace(batch_users=16)
    return model, loop.fit(model, parts, plan, seed, Keeper(tmp_path / name, 60), 8)


class Script:
    """Stands for validation and steps: given metrics, and weights that count the steps."""

    def __init__(self, monkeypatch, hrs, ndcgs=None):
        self.said = iter(zip(hrs, ndcgs or hrs, strict=True))
        self.weights = []  # at each validation
        monkeypatch.setattr(objective, "validate", self.validate)
        monkeypatch.setattr(loop.Phase, "step", self.step)

    def validate(self, model, split, batch):
        self.weights.append(model.users.norm.bias[0].item())
        return next(self.said)

    @staticmethod
    def step(phase, batch):
        with torch.no_grad():
            phase.model.users.norm.bias += 1
        phase.state.warm += 1
        return torch.tensor(2.0)


STEPS = 3  # an epoch


def test_a_plateau_drops_the_rate_from_the_best_weights_and_the_next_ends_it(monkeypatch, tmp_path):
    script = Script(monkeypatch, [0.1, 0.3, 0.2, 0.3, 0.25, 0.2])
    model, fitted = fit(tmp_path, PLAN._replace(epochs=20, patience=2, decays=1))
    # Epoch 1 is the best; after epoch 3 back to its weights; after epoch 5 it ends.
    assert [w / STEPS for w in script.weights] == [0, 1, 2, 3, 2, 3]
    assert model.users.norm.bias[0].item() == STEPS
    assert [row.epoch for row in fitted.curve] == [0, 1, 2, 3, 4, 5]
    rates = [row.learning_rate / PLAN.learning_rate for row in fitted.curve]
    assert rates == pytest.approx([1, 1, 1, 1, 0.2, 0.2])
    assert [row.loss for row in fitted.curve] == [0, 2, 2, 2, 2, 2]
    assert fitted.best == fitted.curve[1]
    assert (fitted.epochs, fitted.capped) == (5, False)


def test_a_cap_between_two_validations_is_no_plateau(monkeypatch, tmp_path):
    Script(monkeypatch, [0.1, 0.3, 0.2, 0.2])
    plan = PLAN._replace(epochs=5, validate_every=2, patience=4, decays=0)
    fitted = fit(tmp_path, plan)[1]
    # Validated at 2, 4 and 5: three epochs without a better one, not four.
    assert [row.epoch for row in fitted.curve] == [0, 2, 4, 5]
    assert fitted.capped


def test_what_is_better_after_a_drop_counts_from_there(monkeypatch, tmp_path):
    script = Script(monkeypatch, [0.1, 0.3, 0.2, 0.4, 0.4, 0.4, 0.1])
    model, fitted = fit(tmp_path, PLAN._replace(epochs=20, patience=1, decays=2))
    # Epochs 2, 4 and 5 are no better: two drops, to the weights of 1 and 3, then the end.
    assert [w / STEPS for w in script.weights] == [0, 1, 2, 2, 3, 3]
    assert (fitted.best.epoch, fitted.epochs, fitted.capped) == (3, 5, False)
    assert model.users.norm.bias[0].item() == 2 * STEPS
    rates = [row.learning_rate / PLAN.learning_rate for row in fitted.curve]
    assert rates == pytest.approx([1, 1, 1, 0.2, 0.2, 0.04])


def test_the_cap_is_marked_when_it_binds(monkeypatch, tmp_path):
    Script(monkeypatch, [0.1, 0.2, 0.3, 0.4])
    _, fitted = fit(tmp_path, PLAN._replace(epochs=3, patience=2))
    assert (fitted.best.epoch, fitted.epochs, fitted.capped) == (3, 3, True)


def test_patience_that_ends_at_the_cap_is_no_cap(monkeypatch, tmp_path):
    Script(monkeypatch, [0.1, 0.2, 0.1, 0.1])
    _, fitted = fit(tmp_path, PLAN._replace(epochs=3, patience=2, decays=0))
    assert (fitted.best.epoch, fitted.epochs, fitted.capped) == (1, 3, False)


def test_a_drop_at_the_cap_is_capped(monkeypatch, tmp_path):
    Script(monkeypatch, [0.1, 0.2, 0.1, 0.1])
    model, fitted = fit(tmp_path, PLAN._replace(epochs=3, patience=2, decays=1))
    assert (fitted.best.epoch, fitted.capped) == (1, True)
    assert model.users.norm.bias[0].item() == STEPS


@pytest.mark.parametrize("steps", [3 * STEPS + 1, 4 * STEPS])
def test_patience_lasts_so_many_steps_too(steps, monkeypatch, tmp_path):
    Script(monkeypatch, [0.5, *[0.1] * 9])
    plan = PLAN._replace(epochs=20, patience=2, decays=0, patience_steps=steps)
    _, fitted = fit(tmp_path, plan)
    # Two epochs are 6 steps, three are 9; only the fourth reaches 10 to 12.
    assert (fitted.epochs, fitted.capped) == (4, False)


def test_epoch_0_is_a_candidate(monkeypatch, tmp_path):
    Script(monkeypatch, [0.5, 0.4, 0.5])
    model, fitted = fit(tmp_path, PLAN._replace(epochs=20, patience=2, decays=0))
    assert (fitted.best.epoch, fitted.epochs) == (0, 2)
    for one, other in zip(model.parameters(), small()[0].parameters(), strict=True):
        assert torch.equal(one, other)


def test_ndcg_selects_where_the_protocol_says_so(monkeypatch, tmp_path):
    Script(monkeypatch, [0.1, 0.2, 0.3], ndcgs=[0.1, 0.3, 0.2])
    _, fitted = fit(tmp_path, PLAN._replace(epochs=2, patience=5, select="ndcg@10"))
    assert fitted.best.epoch == 1


def test_validation_every_other_epoch_and_at_the_cap(monkeypatch, tmp_path):
    Script(monkeypatch, [0.1, 0.2, 0.3, 0.4])
    _, fitted = fit(tmp_path, PLAN._replace(epochs=5, patience=4, validate_every=2))
    assert [row.epoch for row in fitted.curve] == [0, 2, 4, 5]
    Script(monkeypatch, [0.4, 0.2, 0.3])
    plan = PLAN._replace(epochs=9, patience=4, validate_every=2, decays=0)
    _, fitted = fit(tmp_path, plan, name="other")
    # Patience counts epochs, not validations.
    assert ([row.epoch for row in fitted.curve], fitted.capped) == ([0, 2, 4], False)


def test_the_rate_warms_up_stays_and_warms_up_again_after_a_drop(tmp_path):
    model, parts = small()
    feed = loop.batches.Batches(parts.train, parts.candidates, 16, "in_batch", NEGATIVES, 0)
    phase = loop.Phase(model, PLAN._replace(warmup_steps=4), 0, Keeper(tmp_path, 60))

    def rates(steps):
        used = []
        for step in range(steps):
            phase.step(feed.batch(0, step % feed.steps))
            used.append(phase.optimizer.param_groups[0]["lr"] / PLAN.learning_rate)
        return used

    assert phase.optimizer.state == {}
    assert rates(6) == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1, 1, 1])
    phase.state.since = PLAN.patience
    phase.state.epoch = 1
    phase.state.curve = [schedule.Row(0, "probe", 0, 0.9, 0.9, 0)]
    phase.judge(0.1, 0.1, 3)
    assert phase.optimizer.state == {}  # moments of the plateau would lead away again
    assert rates(6) == pytest.approx([0.2 / 4, 0.4 / 4, 0.6 / 4, 0.2, 0.2, 0.2])


def test_weight_decay_is_apart_from_the_gradient(tmp_path):
    """AdamW: a weight without a gradient loses rate x decay of itself, and no step's worth."""
    model, parts = small()
    feed = loop.batches.Batches(parts.train, parts.candidates, 16, "in_batch", NEGATIVES, 0)
    plan = PLAN._replace(learning_rate=0.1, weight_decay=0.2, warmup_steps=0)
    phase = loop.Phase(model, plan, 0, Keeper(tmp_path, 60))
    before = model.tower.table.weight[0].detach().clone()  # PAD's, which no batch has
    phase.step(feed.batch(0, 0))
    torch.testing.assert_close(model.tower.table.weight[0].detach(), (1 - 0.1 * 0.2) * before)


def test_what_is_random_follows_from_seed_epoch_step_and_process(monkeypatch, tmp_path):
    model, _ = small()

    def drawn(seed=0, epoch=0, step=0, rank=0):
        phase = loop.Phase(model, PLAN, seed, Keeper(tmp_path, 60))
        phase.state.epoch, phase.state.step = epoch, step
        monkeypatch.setattr(loop.processes, "rank", lambda: rank)
        noted = []

        def loss(*_):
            noted.extend(torch.rand(4).tolist())
            return model.users.norm.bias.sum()

        monkeypatch.setattr(objective, "loss", loss)
        phase.step(None)
        return tuple(noted)

    changes = [{}, {"seed": 1}, {"epoch": 1}, {"step": 1}, {"rank": 1}]
    found = [drawn(**change) for change in changes]
    assert len(set(found)) == 5
    assert [drawn(**change) for change in changes] == found


def test_a_loss_that_is_not_finite_stops_naming_step_and_learning_rate(monkeypatch, tmp_path):
    found = itertools.chain([1.0, 1.0, 1.0, 1.0], itertools.repeat(float("nan")))
    monkeypatch.setitem(
        losses.LOSSES, "in_batch", lambda queries, *_: queries.sum() * 0 + next(found)
    )
    # Three steps an epoch: the fifth step is the second of epoch 2. Warm-up ended at 4.
    message = (
        r"loss is nan in probe epoch 2, step 2, at learning rate 0\.01, the last finite loss was "
        r"1; lower .*checkpoint is kept in /"
    )
    with pytest.raises(files.Stop, match=message):
        fit(tmp_path, PLAN)
    again = r"probe epoch 2, step 1, at .*, the last finite loss was 1;"  # from the checkpoint on
    with pytest.raises(files.Stop, match=again):
        fit(tmp_path, PLAN)


def test_a_rate_too_high_stops(tmp_path):
    with pytest.raises(files.Stop, match=r"probe epoch 1, step \d, at learning rate 1e\+25"):
        fit(tmp_path, PLAN._replace(learning_rate=1e25, warmup_steps=0))


def test_weights_too_large_to_make_vectors_by_stop_too(tmp_path):
    """The one step of the epoch has a finite loss, and leaves finite weights."""
    message = (
        r"^vectors are not finite in probe epoch 1, step 1, at learning rate 1e\+30, the last "
        r"finite loss was \d.*checkpoint is kept in /"
    )
    model, parts = small()
    plan = PLAN._replace(learning_rate=1e30, warmup_steps=0, batch_users=1000)
    with pytest.raises(files.Stop, match=message):
        loop.fit(model, parts, plan, 0, Keeper(tmp_path, 60), 8)


def test_a_start_that_has_diverged_stops_before_it_trains(tmp_path):
    model, parts = small()
    model.users.norm.bias.data[0] = torch.nan
    with pytest.raises(files.Stop, match="weights are not finite before probe has trained: what"):
        loop.fit(model, parts, PLAN, 0, Keeper(tmp_path, 60), 8)


def test_weights_that_overflow_in_an_epochs_last_step_stop_too(monkeypatch, tmp_path):
    step = loop.Phase.step

    def overflow(phase, batch):
        loss = step(phase, batch)
        if phase.state.step == STEPS - 1:
            phase.model.users.norm.bias.data[0] = torch.nan
        return loss

    monkeypatch.setattr(loop.Phase, "step", overflow)
    with pytest.raises(
        files.Stop, match=r"weights are not finite in probe epoch 1, step 3, at learning rate 0"
    ):
        fit(tmp_path, PLAN)


def test_the_model_is_left_at_its_best_epoch(monkeypatch, tmp_path):
    real, calls = objective.validate, []

    def worse_in_the_end(*args):
        calls.append(real(*args))
        return calls[-1] if len(calls) <= 4 else (0.0, 0.0)

    with monkeypatch.context() as changed:
        changed.setattr(objective, "validate", worse_in_the_end)
        model, fitted = fit(tmp_path, PLAN._replace(learning_rate=0.05, epochs=7, patience=9))
    assert len(calls) == 8
    assert 0 < fitted.best.epoch <= 3
    assert calls[-1] != calls[fitted.best.epoch]
    assert objective.validate(model, small()[1], 8) == calls[fitted.best.epoch]
    assert fitted.best.hr == max(row.hr for row in fitted.curve)


def state_of(model):
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path):
    plan = PLAN._replace(epochs=3)
    one, fitted = fit(tmp_path, plan, seed=1, name="one")
    torch.rand(7)
    np.random.default_rng(0).random(3)
    again, refitted = fit(tmp_path, plan, seed=1, name="again")
    other, _ = fit(tmp_path, plan, seed=2, name="other")
    assert fitted.best.epoch > 0
    assert state_of(one) == state_of(again)
    assert state_of(one) != state_of(other)
    assert fitted.curve == refitted.curve


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_several_threads_give_the_same_bytes_too(loss, tmp_path):
    parts = divided(chain(256, 400, seed=0, window=22), 400, window=23)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = set()
        for n in range(6):
            torch.manual_seed(0)
            user_encoder = Sasrec(64, 20, SASREC)
            model = recommender.Recommender(items.IdTower(400, 64), user_encoder)
            plan = PLAN._replace(loss=loss, epochs=1, batch_users=64)
            loop.fit(model, parts, plan, 0, Keeper(tmp_path / str(n), 60), 64)
            found.add(model.tower.table.weight.detach().numpy().tobytes())
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1
