"""Whole runs: search, seeds, costs, and what a kill at any moment leaves."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from pipeline.data import files
from pipeline.training import loop, runs, trials
from tests.small_domains import settings
from tests.training.conftest import counted_steps, run_in, work

ROOT = Path(__file__).parents[2]
AXES = {
    "learning_rate": [0.01, 0.02],
    "weight_decay": [0.1, 0.2],
    "encoder_learning_rate": [1e-3, 1e-4],
}


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


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
    probe = made.probes(tmp_path / "scratch")
    assert all(
        path.suffix == ".lock" or path.is_relative_to(probe) or path.parent.match("prefix-*")
        for path in left
    )


@pytest.mark.parametrize("run", ["frozen", "end2end"])
def test_every_run_tries_as_many_points_and_takes_the_best_on_validation(
    run, target, public, tmp_path
):
    out = run_in(tmp_path, work(run, target, public, search=AXES))
    tried = pl.read_csv(out / "search.csv")
    assert len(tried) == 4
    axis = "encoder_learning_rate" if run == "end2end" else "weight_decay"
    assert set(zip(tried["learning_rate"], tried[axis], strict=True)) == {
        (rate, second) for rate in AXES["learning_rate"] for second in AXES[axis]
    }
    chosen = tried.filter(pl.col("is_chosen"))
    assert len(chosen) == 1
    assert chosen["hr@10"].item() == tried["hr@10"].max()
    valid = files.read_json(out / "run.json")["valid"]
    assert valid == {m: chosen[m].item() for m in ("hr@10", "ndcg@10")}
    assert files.read_json(tmp_path / "cost.json")["trials"] == 4
    # The point chosen is the one whose model was written.
    curve = pl.read_csv(out / "curve.csv")
    assert curve["learning_rate"][0] == chosen["learning_rate"].item()


def test_unequal_axes_stop_before_training_and_leave_nothing(target, public, monkeypatch, tmp_path):
    monkeypatch.setattr(loop, "fit", None)
    made = work("frozen", target, public, search=AXES | {"encoder_learning_rate": []})
    with pytest.raises(files.Stop, match="same number"):
        run_in(tmp_path, made)
    assert [path.name for path in tmp_path.iterdir()] == ["scratch"]


def test_points_with_the_same_learning_rate_share_their_probe(
    target, public, monkeypatch, tmp_path
):
    axes = AXES | {"learning_rate": []}
    steps = counted_steps(monkeypatch)
    run_in(tmp_path, work("end2end", target, public, search=axes))
    # 40 users in batches of 16: 3 steps; 2 epochs of one probe, 1 epoch of two joint phases.
    assert (steps.count("probe"), steps.count("joint")) == (3 * 2, 3 * 1 * 2)
    assert files.read_json(tmp_path / "cost.json")["trials"] == 2


def test_a_shared_probes_seconds_count_once(target, public, monkeypatch, tmp_path):
    real = loop.fit

    def timed(model, split, plan, *rest):
        fitted = real(model, split, plan, *rest)
        return fitted._replace(seconds={"probe": 10.0, "joint": 3.0}[plan.phase], peak_memory=7)

    monkeypatch.setattr(loop, "fit", timed)
    axes = AXES | {"learning_rate": []}
    run_in(tmp_path, work("end2end", target, public, search=axes))
    cost = files.read_json(tmp_path / "cost.json")
    assert cost["search_seconds"] == 10 + 3 + 3
    assert cost["seconds"] == cost["search_seconds"] + cost["prefix_seconds"]
    assert (cost["probe_seconds"], cost["joint_seconds"]) == (10, 3)
    assert cost["peak_memory_bytes"] == 7


def test_a_result_that_vanished_while_it_was_waited_for_is_made_again(
    target, public, monkeypatch, tmp_path
):
    out = run_in(tmp_path, work("frozen", target, public))
    shutil.rmtree(out)  # as DVC does before a stage
    waited = contextlib.nullcontext(True)
    monkeypatch.setattr(trials.scratch, "locked", lambda folder: waited)
    run_in(tmp_path, work("frozen", target, public))
    assert (out / "run.json").exists()


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


KILLED = """
import json, os, signal, sys
from pathlib import Path
import open_clip, sentence_transformers, transformers.models.bert.modeling_bert
from pipeline.training import checkpoint, loop, objective, outputs, runs, trials

given = json.loads(sys.argv[1])
out, cost, scratch = map(Path, given["to"])


def run(moment, count):
    left = [count]

    def die():
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(owner, name):
        real = getattr(owner, name)
        setattr(owner, name, lambda *args: (die(), real(*args))[1])

    def half(state, opened):
        if left[0] == 1:
            opened.write(b"half of a state")
            opened.flush()
        die()
        save(state, opened)

    save = checkpoint.torch.save
    if moment == "save":
        checkpoint.torch.save = half
    else:
        owners = {"step": loop.Phase, "validate": objective, "write_model": outputs}
        before(owners[moment], moment)
    paths = {name: Path(path) for name, path in given["inputs"].items()}
    settings = runs.SETTINGS["end2end"].model_validate(given["settings"])
    work = runs.Work(runs.Name(*given["name"]), runs.Inputs(**paths), settings)
    trials.run(work, out, cost, scratch)
    os._exit(0)


for kill in given["kills"]:
    process = os.fork()  # so that the imports, those of encoders too, are paid once
    if not process:
        run(*kill)
    found = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    print(json.dumps([found, out.exists(), len([*scratch.rglob("state.part")])]))
"""


def kill(made, folder, *kills):
    """Do a run in processes of which each is killed with SIGKILL, at the count-th such moment.

    Returns, after each: how it ended, whether there is a result, and how many half states.
    """
    given = {
        "inputs": {k: str(v) for k, v in made.inputs._asdict().items() if v is not None},
        "settings": made.settings.model_dump(),
        "name": list(made.name),
        "to": [str(folder / name) for name in ("out", "cost.json", "scratch")],
        "kills": kills,
    }
    done = subprocess.run(
        [sys.executable, "-u", "-c", KILLED, json.dumps(given)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_run_killed_again_and_again_ends_with_the_bytes_of_one_that_never_was(
    target, public, tmp_path
):
    sasrec = settings().user_encoders.sasrec.model_dump() | {"dropout": 0.2}
    made = work(
        "end2end",
        target,
        public,
        search=AXES | {"learning_rate": []},
        user_encoders={"sasrec": sasrec},
        machine__checkpoint_seconds=0,
    )
    whole = contents(run_in(tmp_path / "whole", made))
    folder = tmp_path / "killed"
    found = kill(
        made,
        folder,
        ("step", 5),  # in the probe's second epoch
        ("save", 2),  # a state is half on disk, the one before counts
        ("validate", 3),  # in the first joint phase, at the end of its epoch
        ("step", 2),  # in the second point's joint phase
        ("write_model", 1),  # after training, in the middle of the run's folder
    )
    assert found == [[-9, False, 0], [-9, False, 1], [-9, False, 0], [-9, False, 0], [-9, False, 0]]
    run_in(folder, made)
    # What the killed processes had begun to write is gone too.
    assert {path.name for path in folder.iterdir()} == {"out", "cost.json", "scratch"}
    ended = contents(folder / "out")
    assert ended.keys() == whole.keys()
    assert [name for name in whole if whole[name] != ended[name]] == []


def test_a_second_process_waits_for_the_first_and_takes_its_result(
    target, public, monkeypatch, capfd, tmp_path
):
    made = work("id", target, public)
    run_in(tmp_path, made)
    key = files.read_json(tmp_path / "cost.json")["key"]
    before = contents(tmp_path / "out")
    hold = (
        "import sys, time; from pathlib import Path; from pipeline.data import scratch\n"
        "with scratch.locked(Path(sys.argv[1])): print(flush=True); time.sleep(0.5)"
    )
    command = [sys.executable, "-c", hold, str(tmp_path / "scratch" / key)]
    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert first.stdout.readline()
    monkeypatch.setattr(loop, "fit", None)
    run_in(tmp_path, made)
    assert first.wait() == 0
    assert f"waiting for process {first.pid}," in capfd.readouterr().err
    assert contents(tmp_path / "out") == before


def test_who_waited_for_other_settings_does_its_own_work(target, public, monkeypatch, tmp_path):
    made = work("id", target, public)
    run_in(tmp_path, made)
    files.write_json(tmp_path / "cost.json", {"key": "another"})
    steps = counted_steps(monkeypatch)

    @contextlib.contextmanager
    def waited(folder):
        yield True

    monkeypatch.setattr(trials.scratch, "locked", waited)
    monkeypatch.setattr(runs.Work, "probes", lambda self, root: root / "fresh")
    run_in(tmp_path, made)
    assert steps
