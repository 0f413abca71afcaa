"""Preparing a domain of Bili_2M's size: time, memory and their growth; its covers; a no-op.

python -m benchmarks.prepare                                                  half an hour
python -m benchmarks.prepare --interactions 100000 --repeats 1 --no-noop      a look at it
"""

import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from benchmarks import measure, prepare_covers, prepare_data, prepare_noop

NAME = "prepare"
ROOT = Path(__file__).parents[1]
INTERACTIONS = [250_000, 2_500_000, prepare_data.INTERACTIONS]
MB, GB = 1e6, 1e9
HEAD = [
    "interactions", "users", "items", "wall, s", "CPU, s", "CPU, us an interaction", "peak, MB",
    "loading: peak, MB", "loading: CPU, s",
]  # fmt: skip
ABOUT = f"""
`python -m stages.prepare`, as a process of its own, on all cores: from `D_pair.csv` and
`D_item.csv` to items, histories in order and the data card; the peak is of the whole process.
Loading: `tables.load`, `split.split` and `Batches`, and what their peak adds to that of the
interpreter and its libraries. The domains are generated like Bili_2M: users with
{prepare_data.SHORTEST} items or more, {prepare_data.INTERACTIONS / prepare_data.USERS:.2f} on
average, {prepare_data.INTERACTIONS / prepare_data.ITEMS:.0f} interactions an item, by its rank to
the power of -{prepare_data.SKEW}, titles of {prepare_data.EN} words; rows in no order, the hardest.
""".strip()


class Run(NamedTuple):
    """What a process took."""

    wall: float  # seconds
    cpu: float  # seconds, of all threads
    peak: int  # bytes


def main(
    interactions: Annotated[list[int] | None, typer.Option(help="default: three sizes")] = None,
    repeats: Annotated[int, typer.Option(help=measure.REPEATS)] = 0,
    covers: Annotated[int, typer.Option(help="that are packed; scaled to Bili_2M's")] = 512,
    noop: Annotated[bool, typer.Option(help="also a `dvc repro` that runs nothing")] = True,
) -> None:
    """Measure the stage on growing domains, then covers, then the no-op."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # First, while this process is small: its peak is the least that a child's can be.
        sizes = interactions or INTERACTIONS
        results["sizes"] = [size(folder, n, repeats) for n in sizes]
        results["covers"] = prepare_covers.run(folder / "pictures", covers, repeats)._asdict()
        if noop:
            results["noop"] = prepare_noop.run(folder / "noop", repeats)._asdict()
    measure.write_run(NAME, results, table(results))


def size(folder: Path, interactions: int, repeats: int) -> dict[str, Any]:
    """Prepare and load a domain of one size, some times."""
    raw, work = folder / f"D{interactions}", folder / f"work{interactions}"
    run("benchmarks.prepare_data", str(raw), str(interactions), where=folder)
    work.mkdir()
    shutil.copy2(prepare_data.PRESET, work / "params.yaml")
    words = ["--domain", "d", "--folder", str(raw), "--format", "ninerec", "--language", "en"]
    found: dict[str, Any] = {"stage": [], "load": []}
    walls: list[float] = []
    while len(walls) < measure.due({"stage": walls}, repeats):
        done, _ = run("stages.prepare", *words, "--out", "out", "--card", "card", where=work)
        _, steps = run("benchmarks.prepare_load", "out", where=work)
        found["stage"].append(done)
        found["load"].append(json.loads(steps))
        walls.append(done.wall)
        measure.say(f"{interactions:,}: {done.wall:.1f} s (repeat {len(walls)})")
    card = json.loads((work / "card" / "card.json").read_text(encoding="utf-8"))
    shutil.rmtree(raw)
    shutil.rmtree(work)
    return {name: card[name] for name in ("interactions", "users", "items")} | found


def run(module: str, *words: str, where: Path) -> tuple[Run, str]:
    """Run a module in a folder: (what its process took, what it wrote).

    Raises:
        CalledProcessError: it failed.
    """
    command = [sys.executable, "-m", module, *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as written:
        process = subprocess.Popen(command, cwd=where, env=env, stdout=written)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        written.seek(0)
        took = Run(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * prepare_data.UNIT)
        return took, written.read()


def table(results: dict[str, Any]) -> str:
    """Lay out the sizes, and say below what covers and the no-op cost."""
    rows = [row(one) for one in results["sizes"]]
    said = [measure.table(HEAD, rows), growth(results["sizes"]), ABOUT, pictures(results["covers"])]
    return "\n\n".join([*said, *([unchanged(results["noop"])] if "noop" in results else [])])


def row(one: dict[str, Any]) -> list[str]:
    """Write one size's numbers."""
    stage, load = one["stage"], one["load"]
    return [
        *(f"{one[name]:,}" for name in ("interactions", "users", "items")),
        measure.spread([done.wall for done in stage]).text(1),
        measure.spread([done.cpu for done in stage]).text(1),
        measure.spread([1e6 * done.cpu / one["interactions"] for done in stage]).text(),
        measure.spread([done.peak / MB for done in stage]).text(0),
        measure.spread([(steps["batches"][0] - steps["libraries"][0]) / MB for steps in load]).text(
            0
        ),
        measure.spread([steps["batches"][1] for steps in load]).text(),
    ]


def growth(sizes: list[dict[str, Any]]) -> str:
    """Say how CPU time grows from each size to the next."""
    cpu = [statistics.median(done.cpu for done in one["stage"]) for one in sizes]
    said = [
        f"{large['interactions'] / small['interactions']:.1f} times the interactions took "
        f"{after / before:.1f} times the CPU time"
        for (small, before), (large, after) in itertools.pairwise(zip(sizes, cpu, strict=True))
    ]
    return f"Growth: {'; '.join(said) or 'one size was measured'}."


def pictures(found: dict[str, Any]) -> str:
    """Say what packing covers takes, what they take on disk, and how fast they are read."""
    count, every, side = found["count"], prepare_data.ITEMS, prepare_covers.SIDE
    a_core = measure.spread([count / done.cpu for done in found["pack"]])
    rate = measure.spread([count / done.wall for done in found["pack"]])
    read = measure.spread([prepare_covers.READS / done.cpu for done in found["reads"]])
    width, height = prepare_data.COVER
    return (
        f"Covers: {count:,} JPEGs of {width} x {height} pixels, {found['file_bytes'] / 1000:.0f} "
        f"kB on average, packed at {side} pixels: {a_core.text(0)} a second of CPU, {rate.text(0)} "
        "a second of the clock. Read at random from the memory map, all of it in the page cache, "
        f"in one thread: {read.text(0)} a second. Scaled, not measured: Bili_2M's {every:,} covers "
        f"take {every * side * side * 3 / GB:.1f} GB on disk and "
        f"{every / a_core.median / 60:.0f} minutes of one core."
    )


def unchanged(found: dict[str, Any]) -> str:
    """Say what a `dvc repro` costs that runs nothing."""
    alone, covers = (measure.spread(found[name]).text(1) for name in ("alone", "covers"))
    return (
        "A `dvc repro` that runs nothing, for a source and nine targets, all runs, one content, "
        f"both, and one user encoder, {found['stages']} stages: {alone} s with one cover a domain, "
        f"{covers} s with NineRec's {sum(prepare_noop.COVERS.values()):,} cover files, each of "
        "which DVC looks at. The flow and params.yaml are this repository's; its stages were run "
        "once as stubs that write small files."
    )


if __name__ == "__main__":
    typer.run(main)
