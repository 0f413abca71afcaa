import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.data import files

ROOT = Path(__file__).parents[2]

WRITE = """
import sys
from pathlib import Path
from pipeline.data import files
with files.atomic_folder(Path(sys.argv[1])) as part:
    (part / "run.json").touch()
    (part / "orphan").touch()
    print("writes", flush=True)
    input()
"""


def leftover(folder, process):
    """What a process that is killed in the middle leaves beside `out`."""
    part = folder / f".out.{process}.part"
    part.mkdir()
    (part / "half.npy").write_bytes(b"half")
    return part


@pytest.mark.parametrize(
    ("error", "is_short"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] can't allocate memory: you"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_torch_and_cuda_call_too_little_memory(error, is_short):
    assert files.is_short_of_memory(error) == is_short


def test_a_folder_takes_the_place_of_the_former_one_whole(tmp_path):
    out = tmp_path / "deep" / "out"
    for name in ("run.json", "card.json"):
        with files.atomic_folder(out) as part:
            (part / name).touch()
            assert part != out
    assert [path.name for path in out.iterdir()] == ["card.json"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_folder_that_fails_leaves_the_former_one(tmp_path):
    out = tmp_path / "out"
    with files.atomic_folder(out) as part:
        (part / "run.json").touch()
    with pytest.raises(ZeroDivisionError), files.atomic_folder(out) as part:
        (part / "bad").touch()
        1 / 0  # noqa: B018
    assert [path.name for path in out.iterdir()] == ["run.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_no_stage_has_written_is_never_replaced(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("interactions.parquet", *"abcde"):
        (out / name).touch()
    expected = r"out holds a, b, c, d, e, \.\.\., which no stage has written and which would be"
    with pytest.raises(files.Stop, match=expected), files.atomic_folder(out):
        pytest.fail("it is not written")
    assert len([*out.iterdir()]) == 6
    with pytest.raises(files.Stop, match="a is a file"), files.atomic_folder(out / "a"):
        pytest.fail("it is not written")


def test_one_folder_is_not_written_into_another(tmp_path):
    out = tmp_path / "out"
    with (
        pytest.raises(files.Stop, match="out holds cards, which no stage has written"),
        files.atomic_folder(out) as part,
        files.atomic_folder(out / "cards") as cards,
    ):
        (part / "run.json").touch()
        (cards / "card.json").touch()
    assert (out / "cards" / "card.json").exists()


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    left, kept = leftover(tmp_path, dead.pid), leftover(tmp_path, living.pid)
    with files.atomic_folder(tmp_path / "out"):
        assert not left.exists()
    assert kept.exists()
    living.communicate(b"\n")


def test_a_process_that_writes_the_same_folder_is_waited_for_and_named(tmp_path):
    def start():
        words = [sys.executable, "-c", WRITE, str(tmp_path / "out")]
        pipe = subprocess.PIPE
        return subprocess.Popen(words, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    orphan = start()
    assert orphan.stdout.readline() == "writes\n"
    second = start()
    expected = f"waiting for process {orphan.pid}, which does this work\n"
    assert second.stderr.readline() == expected
    assert not (tmp_path / "out").exists()
    orphan.communicate("\n")
    assert second.stdout.readline() == "writes\n"
    assert (tmp_path / "out" / "orphan").exists()
    second.communicate("\n")
    assert second.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_killed_writer_is_not_waited_for(tmp_path):
    words = [sys.executable, "-c", WRITE, str(tmp_path / "out")]
    killed = subprocess.Popen(
        words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout.readline() == "writes\n"
    killed.kill()
    killed.communicate()
    assert (tmp_path / ".out.lock").exists()
    with files.atomic_folder(tmp_path / "out"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_json_has_sorted_keys_and_no_nan(tmp_path):
    files.write_json(tmp_path / "a.json", {"b": 1, "a": "é"})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": "é",\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", {"b": float("nan")})
    assert files.read_json(tmp_path / "a.json") == {"b": 1, "a": "é"}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_folders_hash_depends_on_names_and_bytes_alone(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, names in [(one, "ab"), (other, "ba")]:
        folder.mkdir()
        for name in names:
            (folder / name).write_text(name)
    assert files.sha256(one) == files.sha256(other)
    (other / "b").rename(other / "c")
    assert files.sha256(one) != files.sha256(other)
