"""`stages.repro` goes on after a `kill -9`: the stale lock goes, the orphan is waited for."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import stub_flow
from ruamel.yaml import YAML

from pipeline import command, dvc_files
from pipeline.data import files
from stages import repro

REPRO = ["python3", "-m", "stages.repro", "--scratch", "artifacts/scratch"]


def process():
    """A process that lives until it is told to end."""
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


@pytest.fixture
def dead():
    """The id of a process that is no more."""
    ended = process()
    ended.communicate()
    return ended.pid


@pytest.fixture
def alive():
    living = process()
    yield living.pid
    living.communicate()


@pytest.fixture
def lock(tmp_path):
    return tmp_path / "rwlock"


def held(read=(), write=()):
    """DVC's lock file, as DVC 3 writes it."""
    reads = {f"/data/{pid}": [{"pid": pid, "cmd": "dvc repro"}] for pid in read}
    writes = {f"/out/{pid}": {"pid": pid, "cmd": "dvc repro"} for pid in write}
    return json.dumps({"read": reads, "write": writes})


def test_a_lock_of_dead_processes_is_removed(lock, dead, capsys):
    lock.write_text(held(read=[dead], write=[dead]))
    assert dvc_files.unlock(lock)
    assert not lock.exists()
    assert "left by a killed process" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["read", "write"])
def test_a_lock_of_a_living_process_stays_and_is_named(lock, dead, alive, capsys, how):
    text = held(**{"read": [dead], "write": [dead], how: [dead, alive]})
    lock.write_text(text)
    assert not dvc_files.unlock(lock)
    assert lock.read_text() == text
    assert f"process [{alive}] holds" in capsys.readouterr().err


def test_a_process_of_somebody_else_is_alive(monkeypatch):
    def refuse(pid, number):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert files.is_alive(1)


def test_no_lock_is_nothing_to_do(lock, capsys):
    assert not dvc_files.unlock(lock)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"read": {"/a": [{"pid": 1',
        "[]",
        "null",
        '{"write": {"/a": 3}}',
        '{"write": {"/a": {}}}',
        '{"write": {"/a": {"pid": "x"}}}',
        '{"read": 5}',
        "\x00\x00",
    ],
)
def test_a_lock_cut_off_while_it_was_written_is_removed(lock, text):
    lock.write_text(text)
    assert dvc_files.unlock(lock)
    assert not lock.exists()


def test_a_lock_of_undecodable_bytes_is_removed(lock):
    lock.write_bytes(b"\xff\xfe{")
    assert dvc_files.unlock(lock)


def test_a_lock_as_dvc_leaves_it_when_all_is_well_goes_without_a_word(lock, capsys):
    lock.write_text("{}")
    assert dvc_files.unlock(lock)
    assert not lock.exists()
    assert capsys.readouterr().err == ""


def test_after_a_dvc_lock_was_cut_off_results_come_from_the_cache_of_runs(small_flow):
    results = small_flow.folder / "dvc.lock"
    whole = results.read_text()
    results.write_text(whole[: whole.rindex("md5: ") + 5])
    done = small_flow.run(*REPRO)
    assert done.returncode == 0, done.stderr
    assert "repro: dvc.lock was cut off by a killed process, moved to dvc.lock.broken" in (
        done.stderr
    )
    assert stub_flow.ran(done.stdout) == set()
    assert YAML(typ="safe").load(results) == YAML(typ="safe").load(whole)
    assert small_flow.status() == set()
    assert "dvc.lock.broken" not in small_flow.git("status", "--porcelain")


def test_a_dvc_lock_that_another_repro_may_be_writing_stays(small_flow, alive):
    results = small_flow.folder / "dvc.lock"
    results.write_text("schema: '2.0'\nstages:\n")
    (small_flow.folder / ".dvc/tmp/rwlock").write_text(held(write=[alive]))
    small_flow.run(*REPRO, "encoder@text")
    assert results.read_text() == "schema: '2.0'\nstages:\n"


def wait_for(condition, what):
    for _ in range(3000):
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"in a minute no {what}")


def running(pid):
    """Whether a process runs still; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123  # it may vanish at any moment
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(pid):
    """The processes that a process has started, and those that they have."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout
    parents = [tuple(map(int, line.split())) for line in listed.splitlines()]
    found, todo = [], [pid]
    while todo:
        parent = todo.pop()
        started = [child for child, above in parents if above == parent]
        found += started
        todo += started
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
def test_a_killed_repro_is_taken_up_and_its_orphan_waited_for(small_flow, tmp_path):
    signals = tmp_path / "signals"
    signals.mkdir()
    small_flow.edit(training={"loss": "bce"})  # so that baseline runs again
    slow = {"STUB_SLOW": "baseline", "STUB_SIGNALS": str(signals)}
    command = [*REPRO, "baseline@near-sasrec"]

    def began():
        return [int(path.stem) for path in signals.glob("*.began")]

    with (tmp_path / "first").open("w") as output:
        first = small_flow.start(*command, env=slow, stdout=output, stderr=output)
        (orphan,) = wait_for(began, "stage that began")
        (dvc,) = [p for p in children(first.pid) if orphan in children(p)][:1]
        os.kill(dvc, signal.SIGKILL)
        assert first.wait(timeout=60) != 0, "what was killed has not succeeded"
    assert running(orphan)
    lock = small_flow.folder / ".dvc/tmp/rwlock"
    assert str(dvc) in lock.read_text()

    with (tmp_path / "second").open("w+") as output:
        second = small_flow.start(*command, env=slow, stdout=output, stderr=output)
        said = (tmp_path / "second").read_text
        wait_for(lambda: "waiting for process" in said(), "second stage that waits")
        assert f"waiting for process {orphan}, which does this work" in said()
        assert "removed .dvc/tmp/rwlock, left by a killed process" in said()
        assert second.poll() is None and running(orphan)
        (signals / "go").touch()
        assert second.wait(timeout=60) == 0, said()
    assert began() == [orphan], "the work was done once"
    assert not running(orphan)
    assert (small_flow.folder / "artifacts/runs/near-id-sasrec/id/made.txt").exists()
    assert not {stage for stage in small_flow.status() if stage.startswith("baseline")}


def test_repro_runs_the_stages_it_is_given_and_passes_a_failure_on(small_flow):
    (small_flow.folder / "requirements.txt").write_text("torch\n")
    done = small_flow.run(*REPRO, "encoder@text")
    assert done.returncode == 0, done.stderr
    assert "Running stage 'encoder@text'" in done.stdout
    assert "baseline" not in done.stdout
    assert small_flow.run(*REPRO, "no-such-stage").returncode != 0


def test_lists_that_do_not_agree_stop_before_dvc_begins(small_flow):
    small_flow.edit(targets=["nowhere"])
    done = small_flow.run(*REPRO)
    assert done.returncode == 1
    assert done.stderr.startswith("\nstopped: params.yaml: 'nowhere' in sources or targets")
    assert done.stdout == ""


def test_ids_alone_are_trained_without_any_content(small_flow):
    nothing = {"text": {}, "image": {}, "both": {}}
    params = YAML(typ="safe").load(small_flow.folder / "params.yaml")
    small_flow.edit(contents=[], origins={}, domains={**params["domains"], **nothing})
    whole = small_flow.run(*REPRO)
    assert whole.returncode == 1
    assert "stopped: params.yaml: contents: []: name at least one, or there is" in whole.stderr
    small_flow.edit(seeds=[7])
    done = small_flow.run(*REPRO, "baseline")
    assert done.returncode == 0, done.stderr
    assert stub_flow.ran(done.stdout) == {"baseline@near-sasrec"}


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("evaluate", {"cutoff": [10]}, "evaluate: there is no 'cutoff'; the keys are cutoffs"),
        ("end2end", {"patiense": 3}, "end2end: there is no 'patiense'; the keys are .*patience"),
        ("seed", {}, r"nothing reads \['seed'\]"),
        ("evaluate", None, "there is no evaluate: take it from the shipped file"),
        ("machine", None, "there is no machine: take it from the shipped file"),
    ],
)
def test_a_typo_in_what_a_late_stage_reads_stops_before_dvc_begins(
    tmp_path, monkeypatch, capsys, section, changes, message
):
    monkeypatch.chdir(tmp_path)
    began = []
    monkeypatch.setattr(
        repro.subprocess,
        "run",
        lambda *words, **_: began.append(1) or subprocess.CompletedProcess(words, 0),
    )
    params = write_params()
    monkeypatch.setattr("sys.argv", ["repro", "--scratch", "scratch"])
    params[section] = params.get(section, {}) | (changes or {})
    if changes is None:
        del params[section]
    write(params)
    with pytest.raises(SystemExit) as done:
        command.run(repro.main)
    assert (done.value.code, began) == (1, [])
    assert re.search(message, capsys.readouterr().err)
    assert not repro.CHECKED.exists()


def test_sections_that_fitted_once_are_not_read_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_params()
    read = []
    monkeypatch.setattr(command, "check_apart", lambda content, _: read.append(content["seeds"]))
    repro.check_sections()
    repro.check_sections()
    params = write_params()
    write(params | {"seeds": [7]})
    repro.check_sections()
    assert read == [[0], [7]]


def test_sections_that_fitted_other_code_are_read_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_params()
    code = tmp_path / "stages" / "evaluate.py"
    files.write_text(code, "cutoffs: list[int]")
    monkeypatch.setattr(repro, "CODE", [tmp_path / "stages"])
    read = []
    monkeypatch.setattr(command, "check_apart", lambda content, _: read.append(content["seeds"]))
    repro.check_sections()
    code.write_text("cutoff: int")
    repro.check_sections()
    Path("dvc.yaml").write_text("stages: {}")
    repro.check_sections()
    repro.check_sections()
    assert read == [[0]] * 3


def test_the_code_that_params_have_to_fit_is_that_of_stages_and_library():
    assert repro.CODE == [stub_flow.ROOT / "pipeline", stub_flow.ROOT / "stages"]


def write_params():
    """The shipped params.yaml, dvc.yaml beside it."""
    params = YAML(typ="safe").load(stub_flow.ROOT / "params.yaml")
    shutil.copy(stub_flow.ROOT / "dvc.yaml", "dvc.yaml")
    write(params)
    return params


def write(params):
    with Path("params.yaml").open("w") as opened:
        YAML().dump(params, opened)
