import os

import numpy as np
import pytest
import torch

from benchmarks import end2end_memory as memory

CPU = torch.device("cpu")
SIZE = 200_000_000  # bytes
SLACK = 5_000_000  # that the interpreter may take or give back meanwhile


def hold_for_a_while():
    """What a process takes while it holds SIZE bytes, and after: {peak, held} before and after."""
    before = memory.held(CPU)
    np.ones(SIZE, np.uint8)
    return os.getpid(), memory.peak(CPU) - before, memory.held(CPU) - before


@pytest.mark.skipif(not memory.STATUS.is_file(), reason="only Linux tells a process's memory")
def test_a_peak_stays_when_its_memory_is_given_back():
    process, peak, held = memory.apart(hold_for_a_while)
    assert process != os.getpid()
    assert peak == pytest.approx(SIZE, abs=SLACK)
    assert held == pytest.approx(0, abs=SLACK)


def test_a_process_holds_less_than_the_machine_has():
    assert 0 < memory.held(CPU) < memory.whole(CPU)
