"""`.ci/run` tests what is committed once, in a fresh environment, and spares the user's own."""

import os
import shutil
import subprocess

import pytest
from stub_flow import ROOT

MAKE = """#!/bin/sh
[ -e .venv ] && fresh=no || fresh=yes
echo "$1 $fresh $PWD" >> "$CALLS"
[ "$1" != "$FAIL" ]
"""


@pytest.fixture
def ci(tmp_path):
    """A committed repository with a .venv, and a way to run .ci/run in it, with a stub of make."""
    repo, bin_folder, calls = tmp_path / "repo", tmp_path / "bin", tmp_path / "calls"
    (repo / ".venv").mkdir(parents=True)
    (repo / ".ci").mkdir()
    shutil.copy2(ROOT / ".ci/run", repo / ".ci/run")
    (repo / ".gitignore").write_text("/.venv/\n")
    identity = ["-c", "user.name=Tester", "-c", "user.email=tester@localhost"]
    for words in (["init", "-q"], ["add", "--all"], [*identity, "commit", "-qm", "All"]):
        subprocess.run(["git", *words], cwd=repo, check=True)
    bin_folder.mkdir()
    (bin_folder / "make").write_text(MAKE)
    (bin_folder / "make").chmod(0o755)

    def run(ci="", fail=""):
        path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
        ours = {"PATH": path, "CALLS": str(calls), "CI": ci, "FAIL": fail}
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
        done = subprocess.run(
            [repo / ".ci/run"], env={**inherited, **ours}, capture_output=True, text=True,
            check=False, cwd=tmp_path,
        )  # fmt: skip
        return done, [line.split() for line in calls.read_text().splitlines()]

    return repo, run


def test_elsewhere_it_runs_in_a_clone_and_spares_the_users_environment(ci):
    repo, run = ci
    done, calls = run()
    assert done.returncode == 0, done.stderr
    assert [words[:2] for words in calls] == [["lint", "yes"], ["repro", "yes"], ["test", "yes"]]
    (where,) = {words[2] for words in calls}
    assert where != str(repo)
    assert not os.path.exists(where)  # noqa: PTH110  # it was cleared away
    assert (repo / ".venv").exists()
    assert done.stderr == ""


def test_in_a_clone_made_for_it_the_environment_is_made_afresh(ci):
    repo, run = ci
    done, calls = run(ci="true")
    assert done.returncode == 0, done.stderr
    assert calls == [[target, "yes", str(repo)] for target in ("lint", "repro", "test")]


def test_a_failure_is_passed_on(ci):
    done, calls = ci[1](fail="lint")
    assert done.returncode != 0
    assert [words[0] for words in calls] == ["lint"]


def test_what_is_not_committed_is_warned_of(ci):
    repo, run = ci
    (repo / "new.py").touch()
    assert "ci: uncommitted changes are not tested" in run()[0].stderr
