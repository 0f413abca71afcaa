"""What is said while something takes long."""

import sys

import pytest

from pipeline.data.progress import Progress


@pytest.fixture
def now(monkeypatch):
    """The time, in seconds."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_progress_has_rate_and_time_to_go(capsys, now):
    progress = Progress("embed text", 1_000, done=200)
    now[0] += 1
    progress.advance(100)  # under two seconds: quiet
    now[0] += 3
    progress.advance(300)
    assert capsys.readouterr().err == "embed text: 600 of 1,000, 100/s, ETA 4 s\n"


def test_a_terminal_has_one_line_that_ends_when_all_is_done(capsys, now, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = Progress("embed text", 1_000)
    now[0] += 4
    progress.advance(400)
    now[0] += 0.1
    progress.advance(10)  # the line is young
    now[0] += 0.9
    progress.advance(90)
    assert capsys.readouterr().err == (
        "\rembed text: 400 of 1,000, 100/s, ETA 6 s\033[K"
        "\rembed text: 500 of 1,000, 100/s, ETA 5 s\033[K"
    )
    now[0] += 0.1
    progress.advance(500)  # young too, but the last: 1,000 in 5.1 s
    progress.advance(0)
    assert capsys.readouterr().err == "\rembed text: 1,000 of 1,000, 196/s, ETA 0 s\033[K\n"


def test_a_terminal_hears_nothing_of_what_takes_no_time(capsys, now, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = Progress("embed text", 10)
    now[0] += 1
    progress.advance(10)
    assert capsys.readouterr().err == ""


def test_what_is_slow_is_said_by_the_seconds_of_each(capsys, now):
    progress = Progress("evaluate near, runs", 10)
    now[0] += 25
    progress.advance(2)
    assert capsys.readouterr().err == "evaluate near, runs: 2 of 10, 12.5 s each, ETA 100 s\n"


def test_of_several_processes_the_first_speaks(capsys, now, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        progress = Progress(f"process {rank}", 10)
        now[0] += 5
        progress.advance(5)
    assert capsys.readouterr().err == "process 0: 5 of 10, 1/s, ETA 5 s\n"
