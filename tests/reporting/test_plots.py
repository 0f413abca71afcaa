"""What DVC shows: metrics as JSON, curves and bars as CSV."""

import json

import polars as pl
import pytest

from pipeline.reporting import markdown
from pipeline.reporting.markdown import MINUS
from tests.reporting.conftest import MORE, QUALITY, rows

METRICS = ("hr@10", "ndcg@10", "mrr@10", "hr@5", "ndcg@5", "mrr@5")  # in the order of the tables


def test_the_metrics_and_plots_of_dvc(world):
    world.report()
    out = world.root / "report"
    found = json.loads((out / "metrics.json").read_text())
    frozen = found["near-text-sasrec"]["frozen"]
    assert 0 < frozen["hr@10_low"] < frozen["hr@10"] < frozen["hr@10_high"] < 1
    assert 0 < frozen["valid_ndcg@10"] < 1
    assert found["far-text-sasrec"]["random"]["hr@10"] == pytest.approx(10 / 290, abs=1e-15)
    bars = pl.read_csv(out / "bars" / "near-text-sasrec.csv")
    assert bars.columns[:4] == ["run", "hr@10", "hr@10_low", "hr@10_high"]
    curve = pl.read_csv(out / "curves" / "near-text-sasrec-id.csv")
    assert {"epoch", "hr@10"} <= {*curve.columns} and len(curve) == 12


def test_dvc_shows_what_the_report_says(world):
    world.evaluate("near", capped=["end2end"])
    text = world.report()
    found = json.loads((world.root / "report" / "metrics.json").read_text())["near-text-sasrec"]
    assert {name for name in found["frozen"] if "_" not in name} == {
        "hr@5", "ndcg@5", "mrr@5", "hr@10", "ndcg@10", "mrr@10", "coverage@5", "coverage@10",
        "gini@5", "gini@10", "capped",
    }  # fmt: skip
    assert {"valid_hr@5", "valid_ndcg@5", "valid_hr@10_low"} <= {*found["frozen"]}
    assert (found["frozen"]["capped"], found["end2end"]["capped"]) == (False, True)
    assert found["random"]["hr@5"] == pytest.approx(5 / 290, abs=1e-15)
    bars = pl.read_csv(world.root / "report" / "bars" / "near-text-sasrec.csv")
    assert bars.filter(pl.col("capped"))["run"].to_list() == ["end2end"]

    pair = found["differences"]["frozen - id"]["hr@10"]
    row = next(r for r in rows(text, "near") if r[3] == f"frozen {MINUS} id")
    assert row[4] == (
        f"{100 * pair['mean']:+.2f} [{100 * pair['low']:+.2f}, {100 * pair['high']:+.2f}]"
    )
    assert (row[5], row[6]) == (markdown.probability(pair["p"]), pair["reading"])
    assert found["differences"]["end2end - frozen"]["ndcg@10"]["reading"] == "capped"
    for run in ("frozen", "itemknn"):  # at the other cutoff too
        column = [*QUALITY["near"], *MORE].index(run) + 2
        cells = [r[column] for r in rows(text, "near") if r[1] == "test"]
        shown = [f"{100 * found[run][metric]:.2f}" for metric in METRICS]
        assert [cell.split(" ")[0] for cell in cells[:6]] == shown


def test_dvc_tells_the_phases_of_a_curve_apart(world):
    """At the epoch where the encoder joins both phases have a row: they are files of their own."""
    world.report()
    folder = world.root / "report" / "curves"
    probe, joint = (
        pl.read_csv(folder / f"near-text-sasrec-end2end-{phase}.csv")
        for phase in ("probe", "joint")
    )
    assert probe["epoch"].to_list() == [*range(8)] and joint["epoch"].to_list() == [*range(7, 12)]
    for path in folder.iterdir():
        assert pl.read_csv(path)["epoch"].is_unique().all(), path
    assert not (folder / "near-text-sasrec-end2end.csv").exists()
