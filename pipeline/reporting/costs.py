"""What runs cost: their own time and memory, and their share of what they stand on."""

from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from pipeline.data import files, kinds, lists
from pipeline.reporting.results import Group


class Cost(BaseModel):
    """One cost file; what does not apply is absent."""

    seconds: float  # everything: all trials and seeds
    search_seconds: float | None = None  # of the trials alone, where points were tried
    probe_seconds: float | None = None  # of one training: head and user encoder alone
    joint_seconds: float | None = None  # of one training: the encoder with them
    probe_epoch_seconds: float | None = None  # with validation
    joint_epoch_seconds: float | None = None
    best_epoch_seconds: float | None = None  # of one training, until its best epoch
    probe_step_flops: int | None = None  # of one step, in one process
    joint_step_flops: int | None = None
    run_bytes: int | None = None  # of the run folder
    embeddings_bytes: int | None = None  # of the vectors that the run reads
    prefix_bytes: int | None = None  # of the kept activations
    prefix_seconds: float | None = None  # running the encoder's frozen part, once an item
    users_per_second: float | None = None
    items_per_second: float | None = None
    peak_memory_bytes: int | None = None
    parameters: int | None = None
    trained_parameters: int | None = None
    device: str = ""
    epochs: int | None = None  # of one training
    trials: int | None = None
    capped: bool = False  # whether it stopped at a cap before its patience


class Costs(NamedTuple):
    """Everything a report says about cost; a name without a file is absent."""

    runs: dict[tuple[Group, str], Cost]
    shares: dict[tuple[Group, str], float]  # seconds: a run's share of what it stands on
    others: dict[str, Cost]  # what several runs stand on: pretrain, embed, embed_tuned


def load(folder: Path, groups: list[Group], runs: list[str], sources: list[str]) -> Costs:
    """Read the costs of all runs and of what they stand on.

    A run's share is the seconds of embedding its target's items, with public or with tuned
    encoders, and those of the source, its embedding and its training, over the number of targets
    that this content and user encoder serve.

    Args:
        folder: the folder of all costs.
        groups: the groups of the report.
        runs: the runs of the report.
        sources: the source, or nothing.
    """
    own: dict[tuple[Group, str], Cost] = {}
    others: dict[str, Cost] = {}
    shares: dict[tuple[Group, str], float] = {}
    for group in groups:
        targets = sum(g.content == group.content and g.user == group.user for g in groups)
        for run in runs:
            cost = _read(folder / _owner(group, run) / f"{run}.json")
            if cost is not None:
                own[group, run] = cost
            at_target, at_source = on_target(group, run, sources), on_source(group, run, sources)
            found = {name: _read(folder / f"{name}.json") for name in [*at_target, *at_source]}
            known = {name: one for name, one in found.items() if one is not None}
            others |= known
            if known:
                shares[group, run] = sum(
                    one.seconds / (targets if name in at_source else 1)
                    for name, one in known.items()
                )
    return Costs(own, shares, others)


def on_target(group: Group, run: str, sources: list[str]) -> list[str]:
    """Name the embeddings of the target that a run reads, as their cost files are named."""
    if run == "id":
        return []
    if kinds.RUNS[run].start == "end2end" and sources:
        return [f"embed_tuned/{group.target}-{sources[0]}-{group.content}-{group.user}"]
    return _embeddings(group.target, group.content)


def on_source(group: Group, run: str, sources: list[str]) -> list[str]:
    """Name what was done on the source for a run: its embeddings, then its training."""
    if not kinds.RUNS[run].start or not sources:
        return []
    trained = f"pretrain/{sources[0]}-{group.content}-{kinds.RUNS[run].start}-{group.user}"
    return [*_embeddings(sources[0], group.content), trained]


def _embeddings(domain: str, content: str) -> list[str]:
    return [f"embed/{domain}-{modality}" for modality in lists.MODALITIES[content]]


def _owner(group: Group, run: str) -> str:
    return (group._replace(content="id") if run == "id" else group).name


def _read(path: Path) -> Cost | None:
    return Cost.model_validate(files.read_json(path)) if path.is_file() else None
