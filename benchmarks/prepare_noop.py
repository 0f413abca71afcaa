"""What `dvc repro` costs where nothing is to be done: nine targets, all runs, one content.

The flow is this repository's, dvc.yaml and all; only its stages are the tests' stubs, which write
small files in no time. So DVC looks at as many stages and paths as after the real runs.
"""

import time
from pathlib import Path
from subprocess import PIPE
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from benchmarks import measure
from pipeline.data import kinds
from tests import stub_flow

# Cover files of Bili_2M, and of NineRec's nine targets.
COVERS = {"source": 144_146, "food": 1_579, "dance": 2_307, "movie": 3_509, "cartoon": 4_724}
COVERS |= {"music": 6_038, "ku": 5_370, "qb": 6_121, "tn": 3_334, "dy": 8_299}
SOURCE, *TARGETS = COVERS


class Noop(NamedTuple):
    """Seconds of a `dvc repro` that runs nothing."""

    stages: int
    first: float  # seconds of the first run
    alone: list[float]  # a repeat, with one cover a domain
    covers: list[float]  # a repeat, with COVERS


def run(folder: Path, repeats: int) -> Noop:
    """Make the flow, run it once, and time what comes after.

    Raises:
        RuntimeError: a stage ran though all were done.
    """
    flow = make(folder)
    began = time.perf_counter()
    stages = repro(flow)
    first = time.perf_counter() - began
    measure.say(f"no-op: the first run of {stages} stages, {first:.0f} s")
    alone = timed(flow, repeats)
    for name, count in COVERS.items():
        write(flow.folder / "covers" / name, "jpg", count)
    # Other inputs, the same outputs: as if the stages had been run on them.
    dvc(flow, "commit", "--force", *(f"covers@{name}" for name in COVERS))
    return Noop(stages, first, alone, timed(flow, repeats))


def timed(flow: stub_flow.Flow, repeats: int) -> list[float]:
    """Time a `dvc repro` that has nothing to run; one goes before, which looks at new files."""
    return measure.side_by_side({"no-op": lambda: idle(flow)}, repeats)["no-op"]


def idle(flow: stub_flow.Flow) -> None:
    """Run `dvc repro`, which has nothing to run.

    Raises:
        RuntimeError: a stage ran.
    """
    if ran := repro(flow):
        raise RuntimeError(f"`dvc repro` ran {ran} stages, though all was done")


def repro(flow: stub_flow.Flow) -> int:
    """Run `dvc repro`, and count the stages that it ran."""
    return len(stub_flow.ran(dvc(flow, "repro")))


def dvc(flow: stub_flow.Flow, *words: str) -> str:
    """Run a command of DVC however long it takes, and give what it wrote.

    Raises:
        RuntimeError: it failed.
    """
    process = flow.start("python3", "-m", "dvc", *words, stdout=PIPE, stderr=PIPE)
    output, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"dvc {words[0]} failed: {errors}")
    return output


def make(folder: Path) -> stub_flow.Flow:
    """Make a repository of the flow, with raw files and a cover a domain."""
    made = stub_flow.environment(folder / "env")
    flow = stub_flow.make(folder / "repo", made, **settings())
    for name in COVERS:
        write(flow.folder / "raw" / name, "csv", 1)
        write(flow.folder / "covers" / name, "jpg", 1)
    return flow


def write(folder: Path, suffix: str, count: int) -> None:
    """Write so many small files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number}.{suffix}").write_text(f"{folder.name} {number}")


def settings() -> dict[str, Any]:
    """Give all sections of params.yaml, with all domains, all runs, and content both."""
    params: dict[str, Any] = YAML(typ="safe").load(stub_flow.ROOT / "params.yaml")
    raw = {
        name: {"format": "ninerec", "folder": f"raw/{name}", "language": "en"}
        | {"covers": f"covers/{name}"}
        for name in COVERS
    }
    listed = {
        field: [run for run, kind in kinds.RUNS.items() if kind.listed == field]
        for field in {kind.listed for kind in kinds.RUNS.values()} - {""}
    }
    return params | {
        "demo": [],
        "origins": {"text": "requirements.txt", "image": "requirements.txt"},
        "domains": dict.fromkeys(["all", "text", "image", "both"], raw),
        "sources": [SOURCE],
        "targets": TARGETS,
        "contents": ["both"],
        "users": ["sasrec"],
        "runs": params["runs"] | listed,
    }
