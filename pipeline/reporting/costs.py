"""What runs cost: their own time and memory, and their share of what they stand on."""

from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from pipeline.data import files
from pipeline.reporting.results import Group

SOURCE_TOWER = {  # whose pre-training a run starts from
    "frozen_transfer": "frozen",
    "frozen_zeroshot": "frozen",
    "tuned_transfer": "end2end",
    "tuned_zeroshot": "end2end",
    "end2end_transfer": "end2end",
}


class Cost(BaseModel):
    """One cost file; what does not apply is absent."""

    seconds: float
    users_per_second: float | None = None
    items_per_second: float | None = None
    peak_memory_bytes: int | None = None
    parameters: int | None = None
    trained_parameters: int | None = None
    device: str = ""
    epochs: int | None = None
    trials: int | None = None
    capped: bool = False  # whether it stopped at a cap before its patience


class Costs(NamedTuple):
    """Everything a report says about cost; a name without a file is absent."""

    runs: dict[tuple[Group, str], Cost]
    shares: dict[tuple[Group, str], float]  # seconds: a transfer run's share of its pre-training
    others: dict[str, Cost]  # what several runs stand on: pretrain, embed, embed_tuned


def load(folder: Path, groups: list[Group], runs: list[str], sources: list[str]) -> Costs:
    """Read the costs of all runs and of what they stand on.

    A transfer run's share is the seconds of the source's training over the number of targets that
    this content and user encoder serve, and those of encoding its own target with tuned encoders.

    Args:
        folder: the folder of all costs.
        groups: the groups of the report.
        runs: the runs of the report.
        sources: the source, or nothing.
    """
    own = {
        (group, run): cost
        for group in groups
        for run in runs
        if (cost := _read(folder / _owner(group, run) / f"{run}.json")) is not None
    }
    others: dict[str, Cost] = {}
    shares = {}
    for group in groups:
        targets = sum(g.content == group.content and g.user == group.user for g in groups)
        for run in runs:
            needed = stands_on(group, run, sources)
            found = {name: _read(folder / f"{name}.json") for name in needed}
            others |= {name: cost for name, cost in found.items() if cost is not None}
            shares[group, run] = sum(
                cost.seconds / (targets if name.startswith("pretrain/") else 1)
                for name, cost in found.items()
                if cost is not None
            )
    for path in sorted((folder / "embed").glob("*.json")):
        domain = path.stem.rpartition("-")[0]
        if domain in {*sources, *(group.target for group in groups)}:
            others[f"embed/{path.stem}"] = Cost.model_validate(files.read_json(path))
    return Costs(own, {key: share for key, share in shares.items() if share}, others)


def stands_on(group: Group, run: str, sources: list[str]) -> list[str]:
    """Name what a run starts from, as its cost files are named."""
    if run not in SOURCE_TOWER or not sources:
        return []
    tower, source = SOURCE_TOWER[run], sources[0]
    needed = [f"pretrain/{source}-{group.content}-{tower}-{group.user}"]
    if tower == "end2end":
        needed.append(f"embed_tuned/{group.target}-{source}-{group.content}-{group.user}")
    return needed


def _owner(group: Group, run: str) -> str:
    return (group._replace(content="id") if run == "id" else group).name


def _read(path: Path) -> Cost | None:
    return Cost.model_validate(files.read_json(path)) if path.is_file() else None
