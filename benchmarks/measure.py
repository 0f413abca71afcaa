"""Side by side: candidates timed in turn, their ratios a repeat, and where that was measured."""

import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent
GB = 1e9
VERSIONS = (
    "torch", "numpy", "polars", "faiss-gpu", "faiss-cpu", "sentence-transformers", "transformers",
    "timm", "dvc",
)  # fmt: skip
MINUTE, MANY, FEW = 60.0, 5, 3
REPEATS = f"0: {MANY}, or {FEW} where one takes over a minute"


class Spread(NamedTuple):
    """A median over repeats with the extremes."""

    median: float
    low: float
    high: float
    repeats: int

    def text(self, digits: int = 2) -> str:
        """Write it as `median (low-high)`."""
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f}-{self.high:,.{digits}f})"


def spread(values: Sequence[float]) -> Spread:
    """Summarise repeats."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def due(seconds: Mapping[str, Sequence[float]], asked: int) -> int:
    """Say how many repeats are due, by how long each candidate's first one took.

    Args:
        seconds: by candidate, those of its repeats so far.
        asked: so many, whatever they take; 0 for MANY, or FEW where one takes over a MINUTE.
    """
    longest = max((own[0] for own in seconds.values() if own), default=0.0)
    return asked or (MANY if longest <= MINUTE else FEW)


def side_by_side(
    candidates: Mapping[str, Callable[[], object]], repeats: int, warm: bool = True
) -> dict[str, list[float]]:
    """Time candidates in turn, the order reversed at every other repeat.

    Args:
        candidates: by name; each call is one measurement, and must wait for a GPU it uses.
        repeats: measurements of each, as `due` takes them.
        warm: whether each runs once before, untimed.

    Returns:
        By name, seconds a repeat.
    """
    if warm:
        for call in candidates.values():
            call()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    repeat = 0
    while repeat < due(seconds, repeats):
        for name in [*candidates][:: 1 if repeat % 2 == 0 else -1]:
            gc.collect()
            began = time.perf_counter()
            candidates[name]()
            seconds[name].append(time.perf_counter() - began)
            say(f"{name}: {seconds[name][-1]:.2f} s (repeat {repeat + 1})")
        repeat += 1
    return seconds


def ratio(slow: Sequence[float], fast: Sequence[float]) -> Spread:
    """Divide repeat by repeat: how many times faster `fast` is."""
    return spread([s / f for s, f in zip(slow, fast, strict=True)])


def machine() -> dict[str, Any]:
    """Describe where this runs, and when: processor, GPU, threads, memory, versions, date."""
    found: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": memory(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in VERSIONS if _has(name)},
    }
    if "torch" in sys.modules:
        import torch

        found["threads"] = torch.get_num_threads()
        found["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return found


def memory() -> int:
    """Give the machine's memory, bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def described(where: Mapping[str, Any]) -> str:
    """Write what `machine` found on one line."""
    parts = [where["date"], where["processor"], f"{where['cores']} cores"]
    parts += [f"{where['threads']} threads of torch"] if "threads" in where else []
    parts += [f"{where['memory'] / GB:.0f} GB", where.get("gpu") or "no GPU"]
    versions = {"Python": where["python"], **where["versions"]}
    return f"{', '.join(parts)}; {', '.join(f'{key} {value}' for key, value in versions.items())}."


def marks(machines: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Number what differs of machines and days, in the order met: {described: mark in a table}."""
    lines = dict.fromkeys(described(where) for where in machines)
    return {line: f"[{number}]" for number, line in enumerate(lines, 1)}


def legend(marked: Mapping[str, str]) -> str:
    """List what the marks of a table stand for."""
    return "\n".join(f"- {mark} {line}" for line, mark in marked.items())


def write_run(name: str, results: dict[str, Any], table: str) -> None:
    """Write what one run measured, with where and when; see `write`."""
    where = machine()
    write(name, {"machine": where, **results}, f"{table.strip()}\n\n{described(where)}")


def write(name: str, results: dict[str, Any], table: str) -> None:
    """Write results/NAME.json, and the table between the marks of NAME in README.md.

    Args:
        name: of the benchmark.
        results: what was measured, as JSON can hold it, with where and when.
        table: Markdown, with a sentence on what is equal on both sides and what is not, and with
            where and when each row was measured.

    Raises:
        ValueError: README.md has no place for it.
    """
    path = FOLDER / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    readme = FOLDER / "README.md"
    text = readme.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{readme} has no place for {name!r}: it needs {begin.strip()} and {end}")
    readme.write_text(f"{before}{begin}\n{table.strip()}\n\n{end}{after}", encoding="utf-8")
    say(f"{path} and its table in {readme} are written")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out as a Markdown table, all but the first column to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def say(text: str) -> None:
    """Say how far it is."""
    print(text, file=sys.stderr, flush=True)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _has(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
