"""Numbers for DVC: metrics as JSON, curves and bars as CSV."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.data import files
from pipeline.reporting import results
from pipeline.reporting.results import Group, Outcome
from pipeline.retrieval import vectors


def metrics(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Gather {group: {run: {..}}}: test with intervals, validation; fractions."""
    found: dict[str, Any] = {}
    for outcome in outcomes:
        rows: dict[str, Any] = {
            name: {
                **_numbers(result, "test"),
                **{f"valid_{m}": result.estimates["valid", m].mean for m in results.METRICS},
            }
            for name, result in outcome.results.items()
        }
        found[outcome.group.name] = {**rows, "random": outcome.chance}
    return found


def read_curves(
    runs: Path, group: Group, names: Iterable[str], seeds: Sequence[int]
) -> dict[str, pl.DataFrame]:
    """Read every run's training curve, of its first seed, where it trained."""
    found = {}
    for run in names:
        owner = group._replace(content="id") if run == "id" else group
        folder = vectors.folders(runs / owner.name / run, seeds)[0]
        curve = pl.read_csv(folder / "curve.csv")
        if len(curve) > 1:  # one row: taken as it came from the source
            found[run] = curve
    return found


def write(
    folder: Path, outcomes: Iterable[Outcome], curves: Mapping[Group, Mapping[str, Any]]
) -> None:
    """Write metrics.json, bars/<group>.csv and curves/<group>-<run>.csv."""
    outcomes = [*outcomes]
    files.write_json(folder / "metrics.json", metrics(outcomes))
    for name in ("bars", "curves"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for outcome in outcomes:
        bars = [
            {"run": name, **_numbers(result, "test")} for name, result in outcome.results.items()
        ]
        pl.DataFrame(bars).write_csv(folder / "bars" / f"{outcome.group.name}.csv")
    for group, of_group in curves.items():
        for run, curve in of_group.items():
            curve.write_csv(folder / "curves" / f"{group.name}-{run}.csv")


def _numbers(result: results.Result, part: str) -> dict[str, float]:
    found = {}
    for metric in results.METRICS:
        estimate = result.estimates[part, metric]
        found[metric] = estimate.mean
        found[f"{metric}_low"], found[f"{metric}_high"] = estimate.low, estimate.high
    return found
