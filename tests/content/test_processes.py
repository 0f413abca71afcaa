"""Several processes of a real command: what they agree on, and that they end together."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from pipeline.content import device, processes
from pipeline.data import files

ROOT = Path(__file__).parents[2]

STAGE = """
import os, time
from pathlib import Path
import torch, typer
from pipeline import command
from pipeline.content import processes
from pipeline.data import files

def main(how: str) -> None:
    if processes.start(2):
        return
    with processes.group(torch.device("cpu")):
        rank, size = processes.rank(), processes.size()
        said = processes.first_says([f"process {rank}"])
        total = processes.summed(torch.tensor([rank + 1.0])).item()
        if rank == 1 and how == "broken":
            raise files.Stop("the second half is broken")
        if how == "nowhere":
            raise files.Stop("there are no data")
        if how == "asleep":
            Path(f"{rank}.pid").write_text(str(os.getpid()))
            time.sleep(600)
        processes.wait()
        with processes.alone(Path("scratch")) as waited:
            locked = Path("scratch.lock").read_text() == str(os.getpid())
    found = (rank, size, said, total, waited, locked, processes.is_first())
    os.write(1, (" ".join(map(str, found)) + "\\n").encode())  # at once: both write here

if __name__ == "__main__":
    command.run(main)
"""


@pytest.fixture
def begin(tmp_path):
    """Begin a command, in a repository of its own, that starts two processes of itself."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "__init__.py").write_text("")
    (tmp_path / "stages" / "two.py").write_text(STAGE)
    own = {name: value for name, value in os.environ.items() if name != "WORLD_SIZE"}

    def begun(how):
        return subprocess.Popen(
            [sys.executable, "-m", "stages.two", how],
            cwd=tmp_path,
            # A RANK of another's, as an array of jobs has it, makes no difference.
            env={**own, "RANK": "3", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return begun


@pytest.mark.slow
def test_processes_share_what_the_first_says_and_one_lock(begin):
    process = begin("well")
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert sorted(said.splitlines()) == [
        "0 2 ['process 0'] 3.0 False True True",
        "1 2 ['process 0'] 3.0 False False False",
    ]


@pytest.mark.slow
def test_the_message_of_one_that_fails_is_seen_and_nobody_waits_for_it(begin):
    process = begin("broken")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "\nstopped: the second half is broken\n" in errors
    last = r"\nstopped: one of 2 processes \(machine.processes\) failed with exit status 1: what it"
    assert re.search(rf"{last} said stands above\n\Z", errors)
    assert "Traceback" not in errors


@pytest.mark.slow
def test_where_all_fail_alike_one_speaks(begin):
    _, errors = begin("nowhere").communicate(timeout=120)
    assert errors.count("stopped: there are no data\n") == 1
    assert "failed with exit status 1: what it said stands above\n" in errors


@pytest.mark.slow
def test_what_ends_the_command_ends_its_processes(begin, tmp_path):
    process = begin("asleep")
    pids = [tmp_path / "0.pid", tmp_path / "1.pid"]
    while not all(path.exists() and path.read_text() for path in pids):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.terminate()
    process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert not [path for path in pids if files.is_alive(int(path.read_text()))]


def test_one_process_needs_no_group():
    assert processes.start(1) is False
    with processes.group(torch.device("cpu")):
        assert (processes.rank(), processes.size(), processes.is_first()) == (0, 1, True)
        assert processes.first_says("a word") == "a word"
        processes.wait()


def test_a_process_that_was_started_starts_none(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert processes.start(2) is False
    assert not processes.is_first()


@pytest.mark.parametrize("stray", [{"RANK": "3"}, {"RANK": "3", "WORLD_SIZE": "1"}])
def test_a_rank_among_no_others_is_anothers_and_this_process_writes(monkeypatch, tmp_path, stray):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name, value in {**stray, "LOCAL_RANK": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert processes.start(1) is False
    with processes.group(torch.device("cpu")), processes.out_folder(tmp_path / "out") as part:
        assert (processes.size(), processes.is_first()) == (1, True)
        (part / "written").touch()
    assert (tmp_path / "out" / "written").exists()
    assert device.pick("auto") == torch.device("cuda")


def test_a_number_of_processes_without_a_rank_is_anothers(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert processes.start(1) is False
    with processes.group(torch.device("cpu")):
        assert (processes.size(), processes.is_first()) == (1, True)


@pytest.mark.parametrize(("wanted", "size"), [(1, "2"), (2, "3")])
def test_a_process_is_one_of_as_many_as_the_settings_say(monkeypatch, wanted, size):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", size)
    told = rf"machine.processes is {wanted}, but .* one of {size} processes: .* set .* to {size}"
    with pytest.raises(files.Stop, match=told):
        processes.start(wanted)


def test_only_commands_start_processes():
    with pytest.raises(files.Stop, match=r"machine.processes is 2: .* are started by a command"):
        processes.start(2)


def test_each_process_has_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device.pick("auto") == torch.device("cuda")
    for name, value in {"RANK": "1", "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device.pick("auto") == torch.device("cuda:1")
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert device.pick("cpu") == torch.device("cpu")
    with pytest.raises(files.Stop, match=r"machine.processes is 3, but torch finds 2 CUDA devices"):
        device.pick("cuda")
