"""Fixtures for tests of the flow as a whole; a room's own lie in its folder."""

import pytest
import stub_flow


@pytest.fixture(scope="session")
def stub_python(tmp_path_factory):
    """A virtual environment in which stages of the flow are stubs."""
    return stub_flow.environment(tmp_path_factory.mktemp("env") / "env")


@pytest.fixture(scope="session")
def flow_done(tmp_path_factory, stub_python):
    """The flow after its first whole run, committed; tests must leave it as it is."""
    flow = stub_flow.make(tmp_path_factory.mktemp("flow") / "repo", stub_python)
    flow.repro()
    flow.git("add", "--all")
    flow.git("commit", "--quiet", "--message", "The first results")
    return flow


@pytest.fixture
def own_flow(flow_done, tmp_path):
    """The same for one test, to be changed freely."""
    return flow_done.copy(tmp_path / "repo")
