"""Several processes through torchrun, on CPUs by gloo: they do what one would."""

import json
import shutil

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from pipeline.data import files
from tests.small_domains import settings
from tests.torchrun import ROOT, python, torchrun


def do(task, n, folder, public, loss):
    """Do a task of several.py in n processes and give what it found, if it came to its end."""
    done = torchrun(n, ["-m", "tests.training.several", task, folder, public, loss])
    assert done.returncode == 0, done.stderr[-3000:]
    result = folder / f"{task}.pt"
    return torch.load(result, weights_only=True) if result.exists() else None


def assert_alike(found, expected):
    assert found.keys() == expected.keys()
    for name, parts in expected.items():
        assert found[name].keys() == parts.keys()
        for part, value in parts.items():
            torch.testing.assert_close(found[name][part], value, rtol=0, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["in_batch", "bce", "sampled_softmax"])
def test_two_processes_have_the_loss_and_the_gradients_of_one(public, loss, tmp_path):
    one = do("gradients", 1, tmp_path / "one", public, loss)
    two = do("gradients", 2, tmp_path / "two", public, loss)
    assert any(name.startswith("tower.encoders.image") for name in one["end2end"])
    assert_alike(two, one)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(public, first, second, tmp_path):
    whole = do("fit", 1, tmp_path / "whole", public, "in_batch")
    assert len(whole["end2end"]["curve"]) == 3
    assert do("begin", first, tmp_path / "parts", public, "in_batch") is None
    assert (tmp_path / "parts" / "state.pt").exists()
    assert_alike(do("fit", second, tmp_path / "parts", public, "in_batch"), whole)


def train(target, public, folder, processes):
    """Run the stage as the flow does, end to end, on so many processes."""
    folder.mkdir()
    shipped = YAML(typ="safe").load(ROOT / "params.yaml")
    own = settings(machine__processes=processes).model_dump()
    (folder / "params.yaml").write_text(json.dumps(shipped | own))
    shutil.copy(ROOT / "dvc.yaml", folder)
    words = {
        "target": "target",
        "content": "both",
        "run": "end2end",
        "user": "sasrec",
        "prepared": target.prepared,
        "embeddings": target.embedded,
        "encoders": public,
        "covers": target.covers,
        "out": folder / "out",
        "cost": folder / "cost.json",
        "scratch": folder / "scratch",
    }
    options = [word for name, value in words.items() for word in (f"--{name}", value)]
    return python(["-m", "stages.train", *options], folder)


@pytest.mark.slow
def test_the_stage_starts_its_processes_and_gives_the_same_run(target, public, tmp_path):
    one = train(target, public, tmp_path / "one", 1)
    two = train(target, public, tmp_path / "two", 2)
    assert one.returncode == two.returncode == 0, two.stderr[-3000:]
    assert two.stderr.count("joint: epoch 1,") == 1  # one process alone speaks
    found, expected = (tmp_path / name / "out" for name in ("two", "one"))
    names = sorted(path.relative_to(expected) for path in expected.rglob("*"))
    assert names == sorted(path.relative_to(found) for path in found.rglob("*"))
    for name in ("items.npy", "queries_test.npy"):
        np.testing.assert_allclose(np.load(found / name), np.load(expected / name), atol=1e-4)
    curves = [(folder / "curve.csv").read_text().splitlines() for folder in (found, expected)]
    assert len(curves[0]) == len(curves[1])
    costs = [files.read_json(tmp_path / name / "cost.json") for name in ("two", "one")]
    assert costs[0]["trials"] == 1
    assert [cost.get("joint_step_flops") is None for cost in costs] == [True, False]


@pytest.mark.slow
def test_a_process_that_stops_stops_the_stage_with_its_message(target, public, tmp_path):
    broken = target._replace(covers=tmp_path / "nowhere")
    done = train(broken, public, tmp_path / "broken", 2)
    assert done.returncode == 1
    assert "nowhere" in done.stderr
    assert "one of 2 processes (machine.processes) failed with exit status 1" in done.stderr
    assert not (tmp_path / "broken" / "out").exists()
