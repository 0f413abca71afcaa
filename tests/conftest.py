"""Fixtures for tests of the flow as a whole; a room's own lie in its folder."""

import itertools
import os
import re

import hypothesis
import pytest
import stub_flow
import typer

from pipeline.download import release, verify
from stages import verify as verify_stage
from tests.download import PUBLISHED, write

# How long an example takes says nothing about the code on a busy machine.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


VISIBLE = os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.fixture(autouse=True)
def gpus_that_are_there(monkeypatch):
    """A run on the CPU hides GPUs from its process, which is that of all tests."""
    if VISIBLE is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", VISIBLE)


@pytest.fixture
def slow(monkeypatch):
    """Every look at the clock is a minute later: all that can speak of its progress does."""
    minutes = itertools.count()
    monkeypatch.setattr("time.monotonic", lambda: 60.0 * next(minutes))


@pytest.fixture(scope="session")
def stub_python(tmp_path_factory):
    """A virtual environment in which stages of the flow are stubs."""
    return stub_flow.environment(tmp_path_factory.mktemp("env") / "env")


def first_results(flow):
    flow.repro()
    flow.git("add", "--all")
    flow.git("commit", "--quiet", "--message", "The first results")
    return flow


@pytest.fixture(scope="session")
def flow_done(tmp_path_factory, stub_python):
    """The flow after its first whole run, committed; tests must leave it as it is."""
    return first_results(stub_flow.make(tmp_path_factory.mktemp("flow") / "repo", stub_python))


@pytest.fixture(scope="session")
def small_flow_done(tmp_path_factory, stub_python):
    """The same for texts alone and without a source: a few stages."""
    folder = tmp_path_factory.mktemp("small") / "repo"
    return first_results(stub_flow.make(folder, stub_python, **stub_flow.text_alone()))


@pytest.fixture
def own_flow(flow_done, tmp_path):
    """The flow after its first run for one test, to be changed freely."""
    return flow_done.copy(tmp_path / "repo")


@pytest.fixture
def small_flow(small_flow_done, tmp_path):
    """The small flow after its first run for one test, to be changed freely."""
    return small_flow_done.copy(tmp_path / "repo")


@pytest.fixture
def download(tmp_path, monkeypatch):
    """A download without fault, without Gone."""
    monkeypatch.setattr(release, "PUBLISHED", PUBLISHED)
    for name in ("Half", "Whole", "Plain"):
        write(tmp_path, name)
    return tmp_path


@pytest.fixture
def verified(download, capsys):
    """Run the command: its exit status, the table's cells by data set, and all of stdout."""

    def run(**options):
        with pytest.raises(typer.Exit) as done:
            verify_stage.main(download, **options)
        said = capsys.readouterr().out
        rows = [re.split(r"  +", line) for line in said.split("\n\n")[0].splitlines()]
        assert rows[0] == [*verify.HEADER]
        found = {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[1:]}
        return done.value.exit_code, found, said

    return run
