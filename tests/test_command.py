"""The entry of every stage: its help, its stop, its exit status."""

import errno
import functools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import typer
from ruamel.yaml import YAML
from stub_flow import ROOT

from pipeline import command
from pipeline.data import files
from pipeline.params import Params, Section
from tests.memory import out_of_memory

STAGES = sorted(path.stem for path in (ROOT / "stages").glob("[a-z]*.py"))


@pytest.fixture
def called(tmp_path, monkeypatch, capsys):
    """Call a main as a command in an empty folder; give its exit status and stderr."""

    def call(main, *words, run=command.run):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["stage", *words])
        with pytest.raises(SystemExit) as caught:
            run(main)
        return caught.value.code, capsys.readouterr().err

    return call


def test_a_stop_is_one_message_without_a_traceback(called):
    def main() -> None:
        raise files.Stop("near_pair.csv, line 3: an item")

    assert called(main) == (1, "\nstopped: near_pair.csv, line 3: an item\n")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_stop(called, code):
    def main() -> None:
        raise OSError(code, "No room", "curve.csv")

    status, said = called(main)
    assert status == 1
    assert said == (
        f"\nstopped: a disk is full ([Errno {code}] No room: 'curve.csv'): free some space and "
        "run again; finished work is kept\n"
    )


def test_too_little_memory_is_a_stop_that_says_for_what(called):
    def main() -> None:
        np.empty((1 << 40, 1 << 10), np.int64)

    status, said = called(main)
    assert status == 1
    assert re.match(r"\nstopped: not enough memory \(Unable to allocate 8.00 PiB ", said)
    assert said.endswith(
        "): free some, or take a machine with more; training needs less of it with a smaller "
        "training.batch_users in params.yaml. Finished work is kept\n"
    )


@pytest.mark.parametrize(
    ("take", "named"),
    [
        (lambda: torch.empty(1 << 50), ".*can't allocate memory: you tried to allocate"),
        (out_of_memory, "CUDA out of memory"),
    ],
    ids=["cpu", "gpu"],
)
def test_too_little_memory_is_a_stop_as_torch_says_it_too(called, take, named):
    def main() -> None:
        take()

    status, said = called(main)
    assert status == 1
    assert re.match(rf"\nstopped: not enough memory \({named}", said)
    assert said.count("\n") == 2


TABLE = pl.DataFrame({"a": range(10_000)})
WRITERS = {
    "bytes": lambda file: file.write(b"0" * 10_000),
    "numpy": lambda file: np.save(file, np.ones(10_000)),
    "parquet": TABLE.write_parquet,
    "csv": TABLE.write_csv,
    "torch": functools.partial(torch.save, torch.ones(10_000)),
}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_is_known_to_have_found_a_full_disk(called, writer):
    def main() -> None:
        with Path("/dev/full").open("wb", buffering=0) as file:
            WRITERS[writer](file)

    status, said = called(main)
    assert status == 1
    assert said.startswith("\nstopped: a disk is full (")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EISDIR, errno.ENOTDIR])
def test_a_path_that_cannot_be_used_is_named(called, code):
    def main() -> None:
        raise OSError(code, "Not so", "curve.csv")

    status, said = called(main)
    assert (status, said.count("\n")) == (1, 2)
    assert said.startswith(f"\nstopped: [Errno {code}] Not so: 'curve.csv': name another path")


def test_without_params_yaml_it_says_so(called, tmp_path):
    def main() -> None:
        Params.load()

    status, said = called(main)
    assert status == 1
    assert said == (
        f"\nstopped: there is no params.yaml in {tmp_path}; call it in the folder that has one\n"
    )


def test_another_error_of_the_system_is_not_dressed_as_a_stop(tmp_path, monkeypatch):
    def main() -> None:
        raise OSError(errno.EIO, "Input/output error", "curve.csv")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stage"])
    with pytest.raises(OSError, match=r"curve\.csv"):
        command.run(main)


def test_what_succeeds_exits_with_0_and_says_nothing(called):
    def main() -> None:
        pass

    assert called(main) == (0, "")


def test_an_exit_status_goes_through(called):
    def main() -> None:
        raise typer.Exit(3)

    assert called(main)[0] == 3


def test_a_defect_of_the_program_is_not_dressed_as_a_stop(tmp_path, monkeypatch):
    def main() -> None:
        raise KeyError("a defect")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stage"])
    with pytest.raises(KeyError, match="a defect"):
        command.run(main)


def test_a_defect_of_the_program_names_a_long_path_in_one_piece(tmp_path):
    path = "/" + "nowhere/" * 30
    script = f"""
from pipeline import command
def main() -> None:
    raise FileNotFoundError(2, "No such file or directory", {path!r})
command.run(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.endswith(f"[Errno 2] No such file or directory: {path!r}\n")


def test_lists_are_checked_before_the_stage_does_anything(called, tmp_path):
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump({**params, "targets": ["elsewhere"]}, file)

    def main() -> None:
        (tmp_path / "done").touch()

    status, message = called(main)
    assert status == 1
    assert "stopped: params.yaml: 'elsewhere' in sources or targets: domains.all lists" in message
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize("text", ["a: [", "targets: [elsewhere]\n"])
def test_help_needs_no_whole_params(called, tmp_path, text):
    (tmp_path / "params.yaml").write_text(text)

    def main(out: str) -> None:
        raise AssertionError("not reached")

    assert called(main, "--help") == (0, "")
    assert called(main, "--out", "x")[0] == 1


def test_lists_that_a_command_has_no_use_for_are_not_checked(called, tmp_path):
    (tmp_path / "params.yaml").write_text("targets: [elsewhere]\n")

    def main() -> None:
        (tmp_path / "done").touch()

    unchecked = functools.partial(command.run, checks_lists=False)
    assert called(main, run=unchecked) == (0, "")
    assert (tmp_path / "done").exists()


def test_what_is_the_demos_is_refused_where_there_is_no_demo(called, tmp_path):
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump({**params, "demo": []}, file)
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())

    def main() -> None:
        raise AssertionError("not reached")

    status, message = called(main)
    assert status == 1
    assert "stopped: params.yaml: demo: [], but origins.image: 'artifacts/demo/encoder'" in message


class Inner(Section):
    width: int


class Outer(Params):
    model: Inner


@pytest.mark.parametrize(
    ("model", "content", "expected"),
    [
        (
            Outer,
            {"model": {"width": "x"}},
            "params.yaml does not fit:\n  model.width: Input should",
        ),
        (Inner, {"width": "x"}, "a file that holds Inner does not fit:\n  width: Input should be"),
    ],
)
def test_what_does_not_fit_is_not_laid_to_params_alone(called, model, content, expected):
    def main() -> None:
        model.model_validate(content)

    status, message = called(main)
    assert status == 1
    assert message.startswith(f"\nstopped: {expected}")


@pytest.mark.parametrize("words", [[], ["--nonsense"], ["--help"]], ids=" ".join)
def test_options_are_typers(called, words):
    def main(out: str) -> None:
        raise AssertionError("not reached")

    assert called(main, *words)[0] == (0 if words == ["--help"] else 2)


@pytest.mark.parametrize("stage", ["repro", "preset", "verify", "export"])
def test_help_needs_no_params(stage, tmp_path):
    """Of the commands that import fast; options of all stages: test_architecture."""
    done = subprocess.run(
        [sys.executable, "-m", f"stages.{stage}", "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "Usage" in done.stdout


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_is_run_by_command(stage):
    text = (ROOT / f"stages/{stage}.py").read_text()
    # preset and breakeven check the preset's lists; verify comes before there are any
    checks = ", checks_lists=False" if stage in {"preset", "breakeven", "verify"} else ""
    assert text.endswith(f'if __name__ == "__main__":\n    command.run(main{checks})\n')
