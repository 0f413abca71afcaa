"""Never two holders at once, though each removes the file that the next one waits for."""

import subprocess
import sys
from pathlib import Path

from pipeline.data import locks

ROOT = Path(__file__).parents[2]

TAKE_TURNS = """
import os, sys, time
from pathlib import Path
from pipeline.data import locks
lock, alone = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(30):
    with locks.held(lock):
        alone.mkdir()  # fails where it is there already
        time.sleep(0.002)
        alone.rmdir()
"""


def test_processes_take_turns(tmp_path):
    words = [sys.executable, "-c", TAKE_TURNS, str(tmp_path / "x.lock"), str(tmp_path / "alone")]
    many = [subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in many:
        said = process.communicate()[1]
        assert process.returncode == 0, said
    assert not [*tmp_path.iterdir()]


def test_the_file_goes_where_the_work_fails_too(tmp_path):
    try:
        with locks.held(tmp_path / "deep" / "x.lock"):
            assert (tmp_path / "deep" / "x.lock").exists()
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert not [*(tmp_path / "deep").iterdir()]
