"""The entry of every stage: its help, its stop, its exit status."""

import subprocess
import sys

import pytest
import typer
from ruamel.yaml import YAML
from stub_flow import ROOT

from pipeline import command
from pipeline.data import files

STAGES = sorted(path.stem for path in (ROOT / "stages").glob("[a-z]*.py"))


@pytest.fixture
def called(tmp_path, monkeypatch, capsys):
    """Call a main as a command in an empty folder; give its exit status and stderr."""

    def call(main, *words):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["stage", *words])
        with pytest.raises(SystemExit) as caught:
            command.run(main)
        return caught.value.code, capsys.readouterr().err

    return call


def test_a_stop_is_one_message_without_a_traceback(called):
    def main() -> None:
        raise files.Stop("near_pair.csv, line 3: an item")

    assert called(main) == (1, "\nstopped: near_pair.csv, line 3: an item\n")


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


@pytest.mark.parametrize("words", [[], ["--nonsense"], ["--help"]], ids=" ".join)
def test_options_are_typers(called, words):
    def main(out: str) -> None:
        raise AssertionError("not reached")

    assert called(main, *words)[0] == (0 if words == ["--help"] else 2)


@pytest.mark.parametrize("stage", ["repro", "preset"])
def test_help_needs_no_params(stage, tmp_path):
    """Of the two commands, which import fast; options of all stages: test_architecture."""
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
    assert text.endswith('if __name__ == "__main__":\n    command.run(main)\n')
