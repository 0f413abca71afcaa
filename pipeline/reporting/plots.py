"""Numbers for DVC: metrics as JSON, curves and bars as CSV."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from pipeline.data import files
from pipeline.reporting import tables
from pipeline.reporting.contrasts import Contrast
from pipeline.reporting.evidence import Evidence
from pipeline.reporting.results import Group, Outcome, Result
from pipeline.retrieval import vectors


class Curve(NamedTuple):
    """A run's training, of its first seed at the chosen point."""

    rows: pl.DataFrame  # epoch (counted through the phases), phase, hr@10, ndcg@10, ...
    best_epoch: int  # the one that was kept, as protocol.select chose it
    best_phase: str


def metrics(found: Evidence) -> dict[str, Any]:
    """Gather what the report says, as fractions.

    Returns:
        {group: {run: {"hr@10": .., "valid_hr@10": .., "capped": ..}, "random": ..,
        "differences": {"run - base": {metric: {"mean": .., "p": .., "reading": ..}}}}}, with
        intervals, at every cutoff, the spread between seeds where there are several. Test runs
        have "coverage@10" and "gini@10" of their lists too; where a content and user encoder have
        several targets, there is {"content-user": {run: {"mean_rank": ..}}}.
    """
    gathered: dict[str, Any] = {}
    for outcome in found.outcomes:
        rows: dict[str, Any] = {name: _numbers(one) for name, one in outcome.results.items()}
        rows["random"] = outcome.chance
        if outcome.group.target in found.oracle:
            rows["oracle"] = {"hr@10": found.oracle[outcome.group.target]}
        gathered[outcome.group.name] = rows
    for (content, user), outcomes in found.series().items():
        if len(outcomes) > 1:
            means = tables.standing(outcomes).mean(axis=0).tolist()
            ranked = zip(outcomes[0].results, means, strict=True)
            gathered[f"{content}-{user}"] = {run: {"mean_rank": mean} for run, mean in ranked}
    for one in found.contrasts:
        pairs = gathered[one.group.name].setdefault("differences", {})
        pairs.setdefault(one.pair, {})[one.metric] = _difference(one)
    return gathered


def read_curves(
    runs: Path, group: Group, names: Iterable[str], seeds: Sequence[int]
) -> dict[str, Curve]:
    """Read every run's training curve, of its first seed, where it trained."""
    found = {}
    for run in names:
        owner = group._replace(content="id") if run == "id" else group
        folder = vectors.folders(runs / owner.name / run, seeds)[0]
        rows, described = pl.read_csv(folder / "curve.csv"), files.read_json(folder / "run.json")
        if len(rows) > 1:  # one row: taken as it came from the source
            found[run] = Curve(rows, described["best_epoch"], described["best_phase"])
    return found


def write(folder: Path, found: Evidence, curves: Mapping[Group, Mapping[str, Curve]]) -> None:
    """Write metrics.json, bars/<group>.csv and curves/<group>-<run>.csv.

    A run of two phases has a file a phase, curves/<group>-<run>-<phase>.csv: at the epoch where
    the encoder joins both have a value, and DVC draws a line a file.
    """
    files.write_json(folder / "metrics.json", metrics(found))
    for name in ("bars", "curves"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for outcome in found.outcomes:
        _bars(outcome).write_csv(folder / "bars" / f"{outcome.group.name}.csv")
    for group, of_group in curves.items():
        for run, curve in of_group.items():
            phases = curve.rows.partition_by("phase", as_dict=True, maintain_order=True)
            for (phase,), rows in phases.items():
                more = f"-{phase}" if len(phases) > 1 else ""
                rows.write_csv(folder / "curves" / f"{group.name}-{run}{more}.csv")


def _bars(outcome: Outcome) -> pl.DataFrame:
    rows = [
        {"run": name, **_part(one, "test"), "capped": one.capped}
        for name, one in outcome.results.items()
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def _numbers(result: Result) -> dict[str, float]:
    valid = {f"valid_{name}": value for name, value in _part(result, "valid").items()}
    shown = {name: number.mean for name, number in result.catalogue.items()}
    spread = {f"{n}_sd": one.sd for n, one in result.catalogue.items() if one.sd is not None}
    return {**_part(result, "test"), **shown, **spread, **valid, "capped": result.capped}


def _part(result: Result, part: str) -> dict[str, float]:
    """Give every metric's mean with its interval, and its spread where there is one."""
    found = {}
    for (of_part, metric), estimate in result.estimates.items():
        if of_part == part:
            found[metric] = estimate.mean
            found[f"{metric}_low"], found[f"{metric}_high"] = estimate.low, estimate.high
            sd = result.sds[part, metric]
            if sd is not None:
                found[f"{metric}_sd"] = sd
    return found


def _difference(one: Contrast) -> dict[str, Any]:
    found = {**one.difference._asdict(), "p": one.p, "reading": one.reading}
    return found if one.sd is None else {**found, "sd": one.sd}
