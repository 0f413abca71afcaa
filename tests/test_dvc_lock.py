"""A dvc.lock that a kill cut off anywhere is moved aside by `stages.repro`, a whole one stays."""

import re

import pytest
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from ruamel.yaml import YAML

from pipeline import dvc_files

RESULTS = """\
schema: '2.0'
stages:
  demo@demo:
    cmd: python -m stages.demo --out "x y"
    deps:
    - path: pipeline/data
      hash: md5
      md5: 84ae8db483600277e55a4be0b40a14b2.dir
      size: 74682
      nfiles: 18
    params:
      params.yaml:
        demo_data:
          seed: 0
    outs:
    - path: artifacts/demo/raw
      hash: md5
      md5: 1213e43bc36b616b3738d4d6150693e3.dir
      size: 3
      nfiles: 1
  report:
    cmd: |
      python -m stages.report
    deps:
    - path: stages/report.py
      hash: md5
      md5: 6b56d303067783c02fcd2f090fb451b0
      size: 939
"""


def dvc_reads(text):
    """Whether DVC's own rules for a dvc.lock are kept, and each path has its hash."""
    try:
        content = COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(text))
    except Exception:  # noqa: BLE001  # whatever DVC would stop on
        return False
    stages = content.get("stages", {}).values()
    paths = [path for stage in stages for path in stage.get("deps", []) + stage.get("outs", [])]
    return all(re.fullmatch(r"[0-9a-f]{32}(\.dir)?", str(path.get("md5"))) for path in paths)


def test_a_dvc_lock_cut_off_anywhere_is_moved_aside_unless_dvc_reads_it(tmp_path, capsys):
    results, broken = tmp_path / "dvc.lock", tmp_path / "dvc.lock.broken"
    moved = 0
    for end in range(len(RESULTS)):
        results.write_text(RESULTS[:end])
        assert dvc_files.set_aside(results) != dvc_reads(RESULTS[:end]), repr(RESULTS[:end])
        if not results.exists():
            moved += 1
            assert broken.read_text() == RESULTS[:end]
    assert 0 < moved < len(RESULTS)
    assert "dvc.lock was cut off by a killed process, moved to " in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "",
        "stages: {}\n",
        "schema: '2.0'\nstages:\n",
        RESULTS[: RESULTS.index("pipeline/data")],
        RESULTS[: RESULTS.index("84ae")],
        RESULTS[: RESULTS.index("84ae") + 9],
        RESULTS[: RESULTS.index("      md5")],
        RESULTS + "\0",
        "schema: '2.0'\n\ufffd: [",
    ],
)
def test_such_a_dvc_lock_is_not_whole(text):
    assert not dvc_files.is_whole(text)


@pytest.mark.parametrize("text", [RESULTS, "schema: '2.0'\n", "schema: '2.0'\nstages: {}\n"])
def test_a_whole_dvc_lock_stays(tmp_path, capsys, text):
    results = tmp_path / "dvc.lock"
    results.write_text(text)
    assert not dvc_files.set_aside(results)
    assert results.read_text() == text
    assert not dvc_files.set_aside(tmp_path / "none")
    assert capsys.readouterr().err == ""


def test_a_dvc_lock_of_undecodable_bytes_is_moved_aside(tmp_path):
    (tmp_path / "dvc.lock").write_bytes(b"\xff\xfe{")
    assert dvc_files.set_aside(tmp_path / "dvc.lock")
