"""Tables across runs and targets: mean ranks, and what the lists show of the catalogue."""

import json
import re

import numpy as np
import pytest

from pipeline import params
from tests.reporting.conftest import MORE, QUALITY, rows


def is_numbers(cells):
    return all(re.fullmatch(r"[\d.]+", cell) for cell in cells)


def test_runs_are_ranked_over_the_targets(world):
    """By test HR@10 of a target each, ties by the mean of their ranks, then the mean."""
    text = world.report()
    found = json.loads((world.root / "report" / "metrics.json").read_text())
    order = [*QUALITY["near"], *MORE]
    expected = []
    for target in ("near", "far"):
        hr = np.array([found[f"{target}-text-sasrec"][run]["hr@10"] for run in order])
        expected.append([1 + (hr > own).sum() + ((hr == own).sum() - 1) / 2 for own in hr])
        (row,) = [row[1:] for row in rows(text, target) if is_numbers(row[1:])]
        assert row == [f"{rank:g}" for rank in expected[-1]]
    means = np.mean(expected, axis=0)
    assert rows(text, "**mean rank**") == [
        ["**mean rank**", *(f"**{mean:.2f}**" for mean in means)]
    ]
    ranked = found["text-sasrec"]
    assert {run: one["mean_rank"] for run, one in ranked.items()} == pytest.approx(
        dict(zip(order, means, strict=True))
    )


def test_a_run_that_was_capped_on_one_target_is_marked_where_ranks_are_averaged(world):
    world.evaluate("near", capped=["end2end"])
    (header,) = [row for row in rows(world.report(), "target") if row[1] == "id"]
    assert [name for name in header if name.endswith("†")] == ["end2end†"]


def test_one_target_gives_no_mean_rank(world):
    params.FILE.write_text(params.FILE.read_text().replace("[near, far]", "[near]"))
    assert "mean rank" not in world.report()
    assert "text-sasrec" not in json.loads((world.root / "report/metrics.json").read_text())


def test_what_the_lists_show_of_the_catalogue(world):
    world.evaluate("near", capped=["end2end"])
    text = world.report()
    cells = {row[1]: row for row in rows(text, "near") if "@" in row[1]}
    assert [*cells] == ["Coverage@5, %", "Gini@5", "Coverage@10, %", "Gini@10"]
    column = [*QUALITY["near"], *MORE].index("end2end") + 2
    assert cells["Coverage@10, %"][column - 1 : column + 1] == ["10.00", "15.00†"]  # 0.2, 0.3 / 2
    assert cells["Gini@5"][column - 1 : column + 1] == ["0.800", "0.700†"]
