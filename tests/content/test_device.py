"""Which device computes, and what it is called."""

import pytest
import torch

from pipeline.content import device, processes
from pipeline.data import files
from tests.content.embedding import CPU


def test_a_gpu_that_is_not_there_stops():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(files.Stop, match=r"machine.device is 'cuda'"):
        device.pick("cuda")
    assert device.pick("auto") == CPU
    assert device.precision(CPU) == torch.float32


def test_a_cost_names_the_devices_of_all_processes(monkeypatch):
    one = device.name(CPU)
    assert one.startswith("cpu ") and one.endswith(f", {torch.get_num_threads()} threads")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda where: "NVIDIA H100")
    assert device.name(torch.device("cuda", 1)) == "NVIDIA H100"
    monkeypatch.setattr(processes, "size", lambda: 2)
    assert device.name(torch.device("cuda", 1)) == "2 x NVIDIA H100"
    assert device.name(CPU) == f"2 x {one}"
