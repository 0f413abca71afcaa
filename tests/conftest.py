"""Fixtures for tests of the flow as a whole; a room's own lie in its folder."""

import hypothesis
import pytest
import stub_flow

# How long an example takes says nothing about the code on a busy machine.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


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
