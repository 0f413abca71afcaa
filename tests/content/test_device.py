"""Which device computes, and what it is called."""

import pytest
import torch

from pipeline.content import device, processes
from pipeline.data import files
from tests.content.embedding import CPU
from tests.memory import out_of_memory


def test_a_gpu_that_is_not_there_stops():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(files.Stop, match=r"machine.device is 'cuda'"):
        device.pick("cuda")
    assert device.pick("auto") == CPU
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert device.precision(CPU) == torch.float32


def test_a_cost_names_the_devices_of_all_processes(monkeypatch):
    one = device.name(CPU)
    assert one.startswith("cpu ") and one.endswith(f", {torch.get_num_threads()} threads")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda where: "NVIDIA H100")
    assert device.name(torch.device("cuda", 1)) == "NVIDIA H100"
    monkeypatch.setattr(processes, "size", lambda: 2)
    assert device.name(torch.device("cuda", 1)) == "2 x NVIDIA H100"
    assert device.name(CPU) == f"2 x {one}"


def test_contents_stay_on_a_gpu_that_has_room_for_more(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 9000))  # free, of all
    where = torch.device("cuda")
    assert [device.has_room(where, size) for size in (399, 401)] == [True, False]
    assert not device.has_room(CPU, 1)


def test_the_memory_of_a_process_is_counted_in_bytes():
    assert device.peak_memory(CPU) > 50 * 2**20  # as torch alone takes


@pytest.mark.parametrize(
    ("where", "items", "advice", "fix"),
    [
        ("cuda", 8, "", "; in params.yaml set machine.embed_batch to 4"),
        ("cuda", 1, "", "; in params.yaml set machine.device to 'cpu'"),
        ("cuda", 8, "machine.device to 'cpu'", "; in params.yaml set machine.device to 'cpu'"),
        ("cpu", 8, "", "; in params.yaml set machine.embed_batch to 4"),
        ("cpu", 8, "training.x to 2", "; in params.yaml set training.x to 2"),
        ("cpu", 1, "", "; free some, or take a machine with more"),
        ("cpu", 8, "machine.device to 'cpu'", "; free some, or take a machine with more"),
    ],
)
def test_too_little_memory_names_what_helps(where, items, advice, fix):
    with (
        pytest.raises(files.Stop) as stopped,
        device.enough_memory(torch.device(where), items, advice),
    ):
        out_of_memory()
    said = f"{where} has too little memory to encode {items} items at once"
    assert str(stopped.value) == said + fix
