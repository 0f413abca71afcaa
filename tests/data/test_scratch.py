import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.data import scratch

ROOT = Path(__file__).parents[2]

HOLD = """
import sys, time
from pathlib import Path
from pipeline.data import scratch
with scratch.locked(Path(sys.argv[1])) as waited:
    print("waited" if waited else "held", flush=True)
    time.sleep(float(sys.argv[2]))
    Path(sys.argv[1] + ".done").touch()
"""


def holder(folder, seconds):
    """Another process that holds a scratch folder for a while."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(seconds)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def folders(tmp_path):
    """An input and code, as a run has them."""
    data, code = tmp_path / "data", tmp_path / "code"
    data.mkdir()
    (data / "a.txt").write_text("a")
    (code / "deep").mkdir(parents=True)
    (code / "deep" / "one.py").write_text("1")
    (code / "notes.md").write_text("1")
    return data, code


def test_a_key_changes_with_all_that_the_result_depends_on(folders, tmp_path):
    data, code = folders

    def key(settings=None, inputs=(data,)):
        return scratch.key(settings or {"rate": 1}, scratch.state(inputs, [code]))

    keys = [key(), key({"rate": 2}), key(inputs=(data, tmp_path / "absent")), key(inputs=())]
    (data / "a.txt").write_text("b")
    keys.append(key())
    (data / "b.txt").write_text("b")
    keys.append(key())
    (code / "deep" / "one.py").write_text("2")
    keys.append(key())
    assert len(set(keys)) == len(keys)
    (code / "notes.md").write_text("2")
    assert key() == keys[-1]


def test_a_key_does_not_depend_on_the_order_of_settings_or_on_where_the_inputs_are(folders):
    data, code = folders
    one = scratch.key({"a": 1, "b": 2}, scratch.state([data], [code]))
    moved = data.rename(data.with_name("elsewhere"))
    assert scratch.key({"b": 2, "a": 1}, scratch.state([moved], [code])) == one


def test_who_comes_first_waits_for_nobody_and_leaves_its_id(tmp_path):
    folder = tmp_path / "scratch" / "0123"
    for _ in range(2):
        with scratch.locked(folder) as waited:
            assert not waited

            assert (tmp_path / "scratch" / "0123.lock").read_text() == str(os.getpid())


def test_the_second_waits_for_the_first_and_names_it(tmp_path, capfd):
    folder = tmp_path / "0123"
    first = holder(folder, 0.7)
    with scratch.locked(folder) as waited:
        assert waited
        assert Path(f"{folder}.done").exists()
    assert f"waiting for process {first.pid}, which does this work" in capfd.readouterr().err
    assert first.wait() == 0


def test_a_killed_process_holds_nothing(tmp_path):
    folder = tmp_path / "0123"
    first = holder(folder, 60)
    first.kill()
    first.wait()
    began = time.monotonic()
    with scratch.locked(folder) as waited:
        assert not waited
    assert time.monotonic() - began < 5


def test_other_work_is_not_waited_for(tmp_path):
    first = holder(tmp_path / "0123", 60)
    with scratch.locked(tmp_path / "4567") as waited:
        assert not waited
    first.kill()
    first.wait()


def test_a_cleared_folder_is_gone_and_so_is_its_lock(tmp_path):
    folder = tmp_path / "0123"
    with scratch.locked(folder):
        folder.mkdir()
        (folder / "state.pt").touch()
        scratch.clear(folder)
        scratch.clear(folder)
    assert not [*tmp_path.iterdir()]


def scratch_of_two_runs(root):
    for name in ("0123", "4567"):
        (root / name).mkdir(parents=True)
        (root / name / "state.pt").touch()
    (root / "4567.lock").touch()  # of a killed process
    return root


def test_once_all_is_done_scratch_is_swept(tmp_path):
    root = scratch_of_two_runs(tmp_path / "scratch")
    scratch.sweep(root)
    assert not root.exists()
    scratch.sweep(root)  # nothing to do


def test_where_somebody_works_nothing_is_swept(tmp_path):
    root = scratch_of_two_runs(tmp_path / "scratch")
    first = holder(root / "0123", 60)
    before = sorted(root.rglob("*"))
    scratch.sweep(root)
    assert sorted(root.rglob("*")) == before
    first.kill()
    first.wait()
    scratch.sweep(root)
    assert not root.exists()


def test_a_folder_is_dropped_unless_somebody_works_in_it(tmp_path):
    root = scratch_of_two_runs(tmp_path / "scratch")
    first = holder(root / "0123", 60)
    assert not scratch.drop(root / "0123")
    assert scratch.drop(root / "4567")
    assert {path.name for path in root.iterdir()} == {"0123", "0123.lock"}
    first.kill()
    first.wait()
    assert scratch.drop(root / "0123")
    assert not [*root.iterdir()]


def test_a_lock_that_its_holder_has_removed_drops_nothing(tmp_path, monkeypatch):
    """Between opening it and taking it: the folder may be another's by then."""
    folder = tmp_path / "0123"
    folder.mkdir()

    def removed(_):
        (tmp_path / "0123.lock").unlink()
        return True

    monkeypatch.setattr(scratch.locks, "is_free", removed)
    assert not scratch.drop(folder)
    assert folder.exists()
