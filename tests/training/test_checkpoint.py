"""Checkpoints are whole or absent, and a killed phase ends as if nobody had killed it."""

import pytest
import torch

from pipeline.models import items, recommender
from pipeline.models.sasrec import Sasrec
from pipeline.training import checkpoint, loop, objective, schedule
from pipeline.training.checkpoint import Keeper
from tests.small_domains import LENGTH, PLAN, SASREC, chain, divided

N_ITEMS = 30
STEPS = 3  # an epoch
DROPS = PLAN._replace(batch_users=16, epochs=15, patience=2, decays=1, learning_rate=0.05)


class KilledError(Exception):
    """Stands for a kill: nothing after it runs, and nobody catches it."""


def fit(folder, seed=0, every=0.0, plan=DROPS):
    torch.manual_seed(5)
    settings = SASREC.model_copy(update={"dropout": 0.2})
    tower = items.IdTower(N_ITEMS, 8)
    model = recommender.Recommender(tower, Sasrec(8, LENGTH, settings))
    parts = divided(chain(40, N_ITEMS, seed=0, predictable=0.9), N_ITEMS)
    return model, loop.fit(model, parts, plan, seed, Keeper(folder, every), 8)


def kill_at(monkeypatch, step):
    """Let so many steps be done, then no more."""
    done = iter(range(step))
    real = loop.Phase.step

    def counted(phase, batch):
        if next(done, None) is None:
            raise KilledError
        return real(phase, batch)

    monkeypatch.setattr(loop.Phase, "step", counted)


def bytes_of(model):
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    model, fitted = fit(tmp_path_factory.mktemp("whole"), every=1e9)
    assert 0 < fitted.best.epoch < fitted.epochs
    assert fitted.curve[-1].learning_rate < fitted.curve[0].learning_rate  # it has a drop
    return bytes_of(model), fitted


@pytest.mark.parametrize("every", [0.0, 1e9], ids=["each-step", "each-epoch"])
@pytest.mark.parametrize("steps", [0, 1, 3, 4, 8, 9, 11])
def test_killed_anywhere_it_ends_with_the_same_bytes(
    uninterrupted, steps, every, monkeypatch, tmp_path
):
    with monkeypatch.context() as killing, pytest.raises(KilledError):
        kill_at(killing, steps)
        fit(tmp_path, every=every)
    model, fitted = fit(tmp_path, every=every)
    assert bytes_of(model) == uninterrupted[0]
    assert fitted.curve == uninterrupted[1].curve
    assert fitted[2:4] == uninterrupted[1][2:4]  # epochs, capped


def test_killed_after_every_single_step_it_still_ends_the_same(
    uninterrupted, monkeypatch, tmp_path
):
    kills = 0
    while True:
        try:
            with monkeypatch.context() as killing:
                kill_at(killing, 1)
                model, fitted = fit(tmp_path)
            break
        except KilledError:
            kills += 1
    # Each start does one step; only the kill that would follow the last one never comes.
    assert kills == uninterrupted[1].epochs * STEPS - 1
    assert bytes_of(model) == uninterrupted[0]
    assert fitted.curve == uninterrupted[1].curve


def test_no_step_is_done_twice_after_a_checkpoint_at_each(monkeypatch, tmp_path):
    with monkeypatch.context() as killing, pytest.raises(KilledError):
        kill_at(killing, 4)
        fit(tmp_path)
    done = []
    real = loop.Phase.step
    monkeypatch.setattr(
        loop.Phase, "step", lambda phase, batch: done.append(phase.state.step) or real(phase, batch)
    )
    fit(tmp_path)
    assert done[:3] == [1, 2, 0]


def test_a_finished_phase_is_taken_without_a_step(monkeypatch, tmp_path):
    model, fitted = fit(tmp_path)
    kill_at(monkeypatch, 0)
    monkeypatch.setattr(objective, "validate", None)
    again, refitted = fit(tmp_path)
    assert bytes_of(model) == bytes_of(again)
    assert fitted == refitted


def test_seconds_of_killed_parts_count(monkeypatch, tmp_path):
    clock = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
    real = loop.Phase.step

    def slow(phase, batch):
        clock[0] += 10
        return real(phase, batch)

    plan = DROPS._replace(epochs=2, patience=9)
    monkeypatch.setattr(loop.Phase, "step", slow)
    with monkeypatch.context() as killing, pytest.raises(KilledError):
        kill_at(killing, 4)
        fit(tmp_path, plan=plan)
    _, fitted = fit(tmp_path, plan=plan)
    assert fitted.seconds == 2 * STEPS * 10
    assert fitted.users_per_second == pytest.approx(2 * 40 / (2 * STEPS * 10))


def test_a_slow_checkpoint_is_spread_over_the_rate_of_its_epoch(monkeypatch, tmp_path):
    clock, paces = [0.0], []
    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
    real_step, real_save = loop.Phase.step, loop.Phase.save

    def slow_step(phase, batch):
        clock[0] += 10
        return real_step(phase, batch)

    def slow_save(phase):
        clock[0] += 5
        real_save(phase)

    monkeypatch.setattr(loop.Phase, "step", slow_step)
    monkeypatch.setattr(loop.Phase, "save", slow_save)
    monkeypatch.setattr(loop.Progress, "step", lambda *said: paces.append(said[-1]))
    fit(tmp_path, plan=DROPS._replace(epochs=1))
    assert paces == pytest.approx([1 / 10, 2 / 25, 3 / 40])  # a state after each step but the last


def test_the_most_memory_of_any_part_counts(monkeypatch, tmp_path):
    plan = DROPS._replace(epochs=2, patience=9)
    monkeypatch.setattr(loop.device, "peak_memory", lambda _: 7)
    with monkeypatch.context() as killing, pytest.raises(KilledError):
        kill_at(killing, 4)
        fit(tmp_path, plan=plan)
    monkeypatch.setattr(loop.device, "peak_memory", lambda _: 5)
    assert fit(tmp_path, plan=plan)[1].peak_memory == 7


def test_a_state_reads_back_as_it_was(tmp_path):
    keeper = Keeper(tmp_path / "deep" / "work", 60)
    assert keeper.load() is None
    state = {"weights": torch.arange(3.0), "step": 4, "curve": [(1, "probe", 0.5)]}
    keeper.save(state)
    found = keeper.load()
    assert torch.equal(found.pop("weights"), state.pop("weights"))
    assert found == state
    assert [path.name for path in keeper.file.parent.iterdir()] == ["state.pt"]


def test_a_half_written_state_is_ignored_and_the_one_before_counts(tmp_path, monkeypatch):
    keeper = Keeper(tmp_path, 60)
    keeper.file.with_suffix(".part").write_bytes(b"half of a sta")
    assert keeper.load() is None
    keeper.save({"step": 1})

    def half(state, opened):
        opened.write(b"half of a sta")
        raise KilledError

    with monkeypatch.context() as killing, pytest.raises(KilledError):
        killing.setattr(checkpoint.torch, "save", half)
        keeper.save({"step": 2})
    assert keeper.file.with_suffix(".part").exists()
    assert Keeper(tmp_path, 60).load() == {"step": 1}
    keeper.save({"step": 3})
    assert Keeper(tmp_path, 60).load() == {"step": 3}


def test_a_state_is_due_some_seconds_after_the_last(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])
    keeper = Keeper(tmp_path, 60)
    assert not keeper.due()
    clock[0] += 60
    assert keeper.due()
    keeper.save({})
    assert not keeper.due()


def test_a_state_may_hold_no_code(tmp_path):
    keeper = Keeper(tmp_path, 60)
    torch.save({"curve": schedule.Row(0, "probe", 0, 0, 0, 0)}, keeper.file)
    with pytest.raises(Exception, match="Weights only load failed"):
        keeper.load()
