"""An epoch end to end against an epoch of `frozen`: training, validation, checkpoint, and memory.

Each epoch runs in a process of its own, so that its peak of memory is its own.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from benchmarks import end2end_memory as memory
from benchmarks import end2end_sides as sides
from benchmarks import end2end_steps as steps
from benchmarks import measure
from pipeline.training import loop, schedule
from pipeline.training.progress import Progress

WARM = 3  # steps before the epoch
RUNS = ("frozen", "end2end")
LOSS = "in_batch"  # the pipeline's own


class Epoch(NamedTuple):
    """What one epoch cost."""

    seconds: float
    memory: int  # bytes, the most at once: a GPU's allocations, else the process's memory


def compare(setup: sides.Setup, case: sides.Case, repeats: int) -> dict[str, Any]:
    """Measure an epoch of each run in turn.

    Args:
        setup: sizes.
        case: what trains on what.
        repeats: as `measure.due` takes them.

    Returns:
        Seconds and bytes by run and repeat, the ratios of end2end to frozen, what trained and the
        bytes kept.
    """
    # The prefix is filled here, and no part of an epoch.
    joint = sides.ours(setup, case, LOSS)
    trained, cache = sides.trained(joint.encoders), sides.kept(joint.work)["bytes"]
    del joint
    found: dict[str, list[Epoch]] = {run: [] for run in RUNS}

    def turn(run: str) -> Callable[[], None]:
        return lambda: found[run].append(memory.apart(one, run, setup, case))

    # What this times holds the start of a process; an epoch's own time is in `found`.
    measure.side_by_side({run: turn(run) for run in RUNS}, repeats, warm=False)
    seconds = {run: [epoch.seconds for epoch in own] for run, own in found.items()}
    peaks = {run: [float(epoch.memory) for epoch in own] for run, own in found.items()}
    return {
        "trained": trained,
        "seconds": seconds,
        "memory": peaks,
        "time_ratio": steps.ratio(seconds["end2end"], seconds["frozen"]),
        "memory_ratio": steps.ratio(peaks["end2end"], peaks["frozen"]),
        "cache_bytes": cache,
    }


def one(run: str, setup: sides.Setup, case: sides.Case) -> Epoch:
    """Run one epoch as `fit` does, after some steps that warm up."""
    build = {"frozen": sides.frozen, "end2end": sides.ours}[run]
    made = build(setup, case, LOSS)
    phase, machine = made.phase, made.work.machine
    made.train(0, WARM)
    phase.state = schedule.State()
    phase.judge(0.0, 0.0, made.feed.steps)  # epoch 0, as after a validation before training
    progress = Progress(run, setup.users)
    if phase.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    loop.run_epoch(phase, made.work.split, made.feed, progress, machine.embed_batch)
    sides.wait(phase.device)
    return Epoch(time.perf_counter() - began, memory.peak(phase.device))
