"""The whole flow on a tiny demo, by dvc.yaml's own commands, every stage's real work."""

import importlib
import json
import os
import shlex
import shutil
from pathlib import Path

import networkx
import numpy as np
import polars as pl
import pytest
import typer.testing
from dvc.repo import Repo
from ruamel.yaml import YAML

from pipeline.data import kinds
from pipeline.retrieval import evaluation, metrics
from tests.content.conftest import bert

__all__ = ["bert"]

ROOT = Path(__file__).parents[1]
GROUP = "near-both-sasrec"


def tiny(bert):
    """The shipped params.yaml with one target, tiny sizes and a tiny text encoder."""
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    harbor, near = params["domains"]["all"]["harbor"], params["domains"]["all"]["near"]
    for part in params["domains"]:
        params["domains"][part] = {"harbor": harbor, "near": near}
    params["targets"] = ["near"]
    params["runs"]["frozen"] = ["frozen", "frozen_paper"]
    params["encoders"]["text"] = params["origins"]["text"] = str(bert)
    size = {"users": 40, "items": 60, "mean_length": 7.0}
    params["demo_data"] |= {name: size for name in ("harbor", "near", "far", "cold")}
    params["demo_encoder"]["epochs"] = 1
    params["training"] |= {"epochs": 2, "patience": 1, "batch_users": 16}
    params["end2end"] |= {"epochs": 1, "patience": 1}
    params["user_encoders"]["sasrec"]["blocks"] = 1
    params["machine"]["device"] = "cpu"
    return params


def run_all(folder):
    """Run the command of every stage in DVC's order; return their names."""
    with Repo(str(folder)) as repo:
        order = list(networkx.topological_sort(repo.index.graph))[::-1]
        commands = {stage.addressing: shlex.split(stage.cmd) for stage in order}
    for name, (python, _, module, *options) in commands.items():
        assert python == "python"
        app = typer.Typer()
        app.command()(importlib.import_module(module).main)
        done = typer.testing.CliRunner().invoke(app, options)
        assert done.exit_code == 0, f"{name}: {done.output} {done.exception!r}"
    return list(commands)


@pytest.fixture(scope="module")
def flow(bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("flow")
    shutil.copy(ROOT / "dvc.yaml", folder)
    with (folder / "params.yaml").open("w") as file:
        YAML().dump(tiny(bert), file)
    Repo.init(str(folder), no_scm=True).close()
    before = Path.cwd()
    os.chdir(folder)
    try:
        names = run_all(folder)
    finally:
        os.chdir(before)
    return folder / "artifacts", names


def test_every_block_ran(flow):
    blocks = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    assert {name.partition("@")[0] for name in flow[1]} == set(blocks)


def test_every_run_left_what_explains_it(flow):
    artifacts, _ = flow
    content = set(kinds.RUNS) - {"id"}
    assert {folder.name for folder in (artifacts / "runs" / GROUP).iterdir()} == content
    folders = [artifacts / "runs" / GROUP / run for run in content]
    for folder in [*folders, artifacts / "runs/near-id-sasrec/id"]:
        described = json.loads((folder / "run.json").read_text())
        assert described["run"] == folder.name
        items = np.load(folder / "items.npy")
        assert items.shape == (61, 64) and np.isfinite(items).all() and not items[0].any()
        assert len(pl.read_parquet(folder / "ids.parquet")) == 60
        cost = artifacts / "costs" / folder.parent.name / f"{folder.name}.json"
        assert json.loads(cost.read_text())["parameters"] > 0


def test_frozen_and_end2end_share_their_probe(flow):
    curves = flow[0] / "runs" / GROUP
    frozen = pl.read_csv(curves / "frozen/curve.csv")
    joint = pl.read_csv(curves / "end2end/curve.csv").filter(pl.col("phase") == "probe")
    assert joint.equals(frozen)


def test_evaluation_agrees_with_what_training_validated(flow):
    artifacts, _ = flow
    ranks = pl.read_parquet(artifacts / "evaluate" / GROUP / "ranks.parquet")
    for run in set(kinds.RUNS) - {"id"}:
        described = json.loads((artifacts / "runs" / GROUP / run / "run.json").read_text())
        own = evaluation.ranks_of(ranks.filter(run=run, split="valid"))
        found = metrics.summary(own, [10])
        for metric in ("hr@10", "ndcg@10"):
            assert found[metric] == pytest.approx(described["valid"][metric], abs=1e-6)


def test_the_report_names_every_run_and_the_known_answer(flow):
    text = (flow[0] / "report/report.md").read_text()
    for word in ("end2end_transfer", "tuned_zeroshot", "itemKNN", "oracle", "95 %"):
        assert word in text, word
