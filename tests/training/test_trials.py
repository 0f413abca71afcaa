"""Whole runs: search, seeds and costs."""

import gc
import itertools

import polars as pl
import pytest

from pipeline.content import processes
from pipeline.data import files
from pipeline.models import items
from pipeline.training import grid, loop, runs, schedule, trials
from pipeline.training.progress import Progress
from tests.training.conftest import AXES, contents, counted_steps, run_in, work


@pytest.mark.parametrize("run", ["id", "frozen", "end2end"])
def test_equal_runs_have_equal_bytes_whenever_they_are_checkpointed(run, target, public, tmp_path):
    folders = []
    for name, seconds in [("one", 0), ("other", 60)]:
        made = work(run, target, public, machine__checkpoint_seconds=seconds)
        folders.append(run_in(tmp_path / name, made))
    one, other = map(contents, folders)
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []


def test_nothing_is_left_beside_a_finished_run_but_shared_probes_and_locks(
    target, public, tmp_path
):
    made = work("end2end", target, public)
    run_in(tmp_path, made)
    assert {path.name for path in tmp_path.iterdir()} == {"out", "cost.json", "scratch"}
    left = [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()]
    probe = made.probes(tmp_path / "scratch" / "own")
    assert all(
        path.suffix == ".lock" or path.is_relative_to(probe) or path.match("prefix-target/*/*")
        for path in left
    )


def chosen_of(tried):
    rows = tried.filter(pl.col("is_chosen"))
    assert len(rows) == 1
    return rows.row(0, named=True)


def assert_taken_on_validation(folder, tried, n_trials):
    chosen = chosen_of(tried)
    assert chosen["hr@10"] == tried["hr@10"].max()
    valid = files.read_json(folder / "out" / "run.json")["valid"]
    assert valid == {m: chosen[m] for m in ("hr@10", "ndcg@10")}
    assert len(tried) == files.read_json(folder / "cost.json")["trials"] == n_trials
    # The point chosen is the one whose model was written.
    curve = pl.read_csv(folder / "out" / "curve.csv")
    assert curve["learning_rate"][0] == chosen["learning_rate"]


def test_a_frozen_run_tries_all_points_and_takes_the_best_on_validation(target, public, tmp_path):
    tried = pl.read_csv(
        run_in(tmp_path, work("frozen", target, public, search=AXES)) / "search.csv"
    )
    axes = ("learning_rate", "weight_decay")
    assert [*tried.select(axes).iter_rows()] == [*itertools.product(*(AXES[axis] for axis in axes))]
    assert_taken_on_validation(tmp_path, tried, 4)


@pytest.mark.parametrize(("select", "rate"), [("hr@10", 1.0), ("ndcg@10", 2.0)])
def test_the_first_of_the_best_by_the_protocols_metric_is_taken(
    select, rate, target, public, tmp_path
):
    made = work("frozen", target, public, protocol__select=select)
    found = {1.0: (0.5, 0.1), 2.0: (0.4, 0.3), 3.0: (0.5, 0.3)}  # HR@10 and NDCG@10

    def train(point, seed, folder):
        row = schedule.Row(1, "probe", 0.0, *found[point.learning_rate], 0.0)
        return runs.Trained(None, {"probe": schedule.Fitted(row, [row], 1, False, 1.0, 1, 1.0)})

    points = [grid.Point(one, 0.0, 0.0) for one in found]
    progress = Progress("tried")
    best = trials.attempt("setting", train, points, made, tmp_path, progress)
    assert best.point.learning_rate == rate
    assert [point for point, _ in best.tried] == points


def test_an_end2end_run_tries_its_encoders_rates_from_the_model_that_frozen_takes(
    target, public, tmp_path
):
    frozen, end2end = (
        pl.read_csv(run_in(tmp_path / run, work(run, target, public, search=AXES)) / "search.csv")
        for run in ("frozen", "end2end")
    )
    probes, joint = (end2end.filter(phase=phase) for phase in ("probe", "joint"))
    assert probes.drop("is_chosen").equals(frozen.drop("is_chosen"))
    taken = chosen_of(frozen)
    assert joint["encoder_learning_rate"].to_list() == AXES["encoder_learning_rate"]
    for axis in ("learning_rate", "weight_decay"):
        assert set(joint[axis]) == {taken[axis]}
    assert_taken_on_validation(tmp_path / "end2end", end2end, 4 + 2)
    # The joint phase begins with the model that the frozen run takes.
    curve = pl.read_csv(tmp_path / "end2end" / "out" / "curve.csv")
    start = curve.filter(phase="joint").row(0, named=True)
    assert (start["hr@10"], start["ndcg@10"]) == (taken["hr@10"], taken["ndcg@10"])


@pytest.mark.parametrize("axes", [AXES, {axis: [] for axis in AXES}])
def test_while_encoders_train_no_precomputed_embeddings_are_held(
    axes, target, public, monkeypatch, tmp_path
):
    real, alive = loop.fit, []

    def counted(model, split, plan, *rest):
        if plan.phase == "joint":
            gc.collect()
            alive.append(sum(type(one) is items.FrozenTower for one in gc.get_objects()))
        return real(model, split, plan, *rest)

    monkeypatch.setattr(loop, "fit", counted)
    run_in(tmp_path, work("end2end", target, public, search=axes))
    assert alive == [0] * (len(axes["encoder_learning_rate"]) or 1)


def test_without_a_probe_the_encoders_rates_are_the_second_axis(target, public, tmp_path):
    made = work("end2end", target, public, search=AXES, end2end__probe=False)
    tried = pl.read_csv(run_in(tmp_path, made) / "search.csv")
    axes = ("learning_rate", "encoder_learning_rate")
    assert [*tried.select(axes).iter_rows()] == [*itertools.product(*(AXES[axis] for axis in axes))]
    assert_taken_on_validation(tmp_path, tried, 4)


@pytest.mark.parametrize("axes", [AXES, {axis: [] for axis in AXES}])
def test_encoders_that_cannot_train_stop_before_any_probe(
    axes, target, public, monkeypatch, tmp_path
):
    monkeypatch.setattr(loop, "fit", None)
    made = work("end2end", target, public, search=axes, end2end__trainable={"layers": 7})
    with pytest.raises(files.Stop, match=r"layers is 7, but '.*' has 3 blocks"):
        run_in(tmp_path, made)


def test_the_encoders_rates_share_the_best_probe(target, public, monkeypatch, tmp_path):
    axes = AXES | {"learning_rate": []}
    steps = counted_steps(monkeypatch)
    run_in(tmp_path, work("end2end", target, public, search=axes))
    # 40 users in batches of 16: 3 steps; 2 epochs of two probes, 1 epoch of two joint phases.
    assert (steps.count("probe"), steps.count("joint")) == (3 * 2 * 2, 3 * 1 * 2)
    assert files.read_json(tmp_path / "cost.json")["trials"] == 2 + 2


def test_a_shared_probes_seconds_count_once(target, public, monkeypatch, tmp_path):
    real = loop.fit

    def timed(model, split, plan, *rest):
        fitted = real(model, split, plan, *rest)
        fitted = fitted._replace(epochs=4, best=fitted.best._replace(epoch=1), peak_memory=7)
        return fitted._replace(seconds={"probe": 10.0, "joint": 3.0}[plan.phase])

    monkeypatch.setattr(loop, "fit", timed)
    axes = AXES | {"learning_rate": []}
    run_in(tmp_path, work("end2end", target, public, search=axes))
    cost = files.read_json(tmp_path / "cost.json")
    assert cost["search_seconds"] == 10 + 10 + 3 + 3
    assert cost["seconds"] == cost["search_seconds"] + cost["prefix_seconds"]
    assert (cost["probe_seconds"], cost["joint_seconds"]) == (10, 3)
    assert cost["peak_memory_bytes"] == 7
    # Its best epoch is the first of the joint phase's four.
    assert cost["best_epoch_seconds"] == 10 + 3 / 4 + cost["prefix_seconds"]
    assert (cost["probe_epoch_seconds"], cost["joint_epoch_seconds"]) == (10 / 4, 3 / 4)


@pytest.mark.parametrize("run", ["frozen", "end2end"])
def test_several_seeds_have_a_folder_each_and_train_the_chosen_point(run, target, public, tmp_path):
    axes = AXES | {"learning_rate": []}
    out = run_in(tmp_path / "all", work(run, target, public, search=axes, seeds=[3, 5]))
    assert {path.name for path in out.iterdir()} == {"search.csv", "3", "5"}
    chosen = pl.read_csv(out / "search.csv").filter(pl.col("is_chosen"))
    for seed in (3, 5):
        assert files.read_json(out / str(seed) / "run.json")["seed"] == seed
    one, other = contents(out / "3"), contents(out / "5")
    assert one.keys() == other.keys()
    assert one["items.npy"] != other["items.npy"]
    # A seed alone at that point is the same training.
    at = {axis: chosen[axis].to_list() for axis in ("weight_decay", "encoder_learning_rate")}
    alone = work(run, target, public, search=at | {"learning_rate": []}, seeds=[5])
    alone = contents(run_in(tmp_path / "alone", alone))
    del alone["search.csv"]
    assert alone == other


@pytest.mark.parametrize("seeds", [[3], [3, 5]])
def test_a_process_that_is_not_the_first_writes_nothing(
    seeds, target, public, monkeypatch, tmp_path
):
    monkeypatch.setattr(processes, "is_first", lambda: False)
    steps = counted_steps(monkeypatch)
    run_in(tmp_path, work("frozen", target, public, seeds=seeds))
    assert steps
    assert not [*tmp_path.rglob("*")]


def test_costs_stand_apart_and_say_what_was_spent(target, public, tmp_path):
    made = work("end2end", target, public)
    out = run_in(tmp_path, made)
    cost = files.read_json(tmp_path / "cost.json")
    assert set(cost) >= {
        "seconds",
        "probe_seconds",
        "joint_seconds",
        "users_per_second",
        "peak_memory_bytes",
        "parameters",
        "trained_parameters",
        "device",
        "epochs",
        "trials",
        "capped",
    }
    spent = cost["probe_seconds"] + cost["prefix_seconds"] + cost["joint_seconds"]
    assert cost["seconds"] == pytest.approx(spent)
    assert cost["prefix_seconds"] > 0
    assert 0 < cost["trained_parameters"] < cost["parameters"]
    assert (cost["epochs"], cost["trials"]) == (3, 1)
    for written in ("seconds", "device", "per_second"):
        assert not any(written in path.read_text() for path in out.glob("*.json"))
        assert written not in (out / "curve.csv").read_text()
