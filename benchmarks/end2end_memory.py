"""Memory: what a process of its own holds at most, so that nothing from before counts."""

import multiprocessing
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch

from benchmarks import measure
from pipeline.content import device

Given = TypeVar("Given")
STATUS = Path("/proc/self/status")  # where there is Linux


def apart(call: Callable[..., Given], *args: object) -> Given:
    """Call a function of a module in a process of its own."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(call, *args).result()


def peak(where: torch.device) -> int:
    """Give the most bytes held: the GPU's allocations, or this process's memory.

    Not the system's count of a process: it begins with that of the process that started it.
    """
    return _count("VmHWM") if _is_told(where) else device.peak_memory(where)


def held(where: torch.device) -> int:
    """Give the bytes held now; where no system tells, the most."""
    if where.type == "cuda":
        return torch.cuda.memory_allocated(where)
    return _count("VmRSS") if _is_told(where) else device.peak_memory(where)


def whole(where: torch.device) -> int:
    """Give the memory of a device, bytes."""
    if where.type == "cuda":
        return torch.cuda.get_device_properties(where).total_memory
    return measure.memory()


def _is_told(where: torch.device) -> bool:
    return where.type == "cpu" and STATUS.is_file()


def _count(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text(encoding="utf-8"))
    assert found, "Linux says so"
    return int(found[1]) * 1024
