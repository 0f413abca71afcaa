"""The map is a test: who imports whom, and what dvc.yaml says of code and params."""

import ast
import importlib
import re
from pathlib import Path

import pytest
import typer
from ruamel.yaml import YAML

from pipeline.params import Params
from pipeline.training import runs

ROOT = Path(__file__).parents[1]
FLOW = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
BLOCKS = {name: block.get("do", block) for name, block in FLOW.items()}
ROOMS = ["data", "retrieval", "content", "models", "training"]  # each imports from its left
COMMANDS = {"repro", "preset"}  # outside the flow
STAGES = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}
FILES = sorted((ROOT / "pipeline").rglob("*.py")) + sorted((ROOT / "stages").glob("*.py"))


def stage_of(block):
    """The stage whose name is the longest that begins the block's."""
    return max((s for s in STAGES if (block + "_").startswith(s + "_")), key=len)


def imports(file):
    """The files of this repository that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            path = ROOT / (name.replace(".", "/") + ".py")
            if name.split(".")[0] in {"pipeline", "stages"} and path.exists():
                found.add(path)
    return found


def closure(file):
    reached, todo = set(), {file}
    while todo:
        one = todo.pop()
        reached.add(one)
        todo |= imports(one) - reached
    return reached


def room_of(file):
    parts = file.relative_to(ROOT).parts
    return "/".join(parts[:2]) if parts[0] == "pipeline" and len(parts) > 2 else "/".join(parts)


@pytest.mark.parametrize("block", BLOCKS)
def test_dvc_names_exactly_the_code_a_stage_reaches(block):
    deps = [dep for dep in BLOCKS[block]["deps"] if dep.startswith(("stages/", "pipeline/"))]
    reached = {room_of(file) for file in closure(ROOT / f"stages/{stage_of(block)}.py")}
    assert sorted(deps) == sorted(reached)


def sections_read_by(block):
    """The sections of params.yaml that a block's stage names in its Params."""
    if stage_of(block) in {"pretrain", "baseline", "train", "transfer"}:
        tower = {"baseline": "id"}.get(block, block.split("_")[-1]).replace("tuned", "frozen")
        return set(runs.SETTINGS[tower].model_fields)
    module = importlib.import_module(f"stages.{stage_of(block)}")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Params) and value is not Params
    ]
    return {field for params in found for field in params.model_fields}


@pytest.mark.parametrize("block", BLOCKS)
def test_dvc_names_exactly_the_sections_a_stage_reads(block):
    declared = {param.split(".")[0] for param in BLOCKS[block].get("params", [])}
    assert declared == sections_read_by(block) - {"machine"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_left_only(file):
    room = room_of(file).removeprefix("pipeline/")
    for other in map(room_of, imports(file)):
        if room in ROOMS:
            name = other.removeprefix("pipeline/")
            assert name not in ROOMS or ROOMS.index(name) <= ROOMS.index(room), other
            assert name != "reporting" and not other.startswith("stages/")
        elif room == "reporting":
            assert other in {
                "pipeline/data", "pipeline/retrieval", "pipeline/reporting", "pipeline/params.py"
            }  # fmt: skip
        elif room.startswith("stages/"):
            assert not other.startswith("stages/"), "a stage never imports a stage"


@pytest.mark.parametrize("room", ["data", "retrieval", "reporting"])
def test_rooms_without_training_need_no_torch(room):
    for file in (ROOT / "pipeline" / room).glob("*.py"):
        for other in closure(file):
            assert "import torch" not in other.read_text(), f"{file} reaches torch in {other}"


def test_a_backward_import_would_be_seen(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "pipeline/data").mkdir(parents=True)
    (tmp_path / "pipeline/models").mkdir()
    (tmp_path / "pipeline/models/users.py").write_text("")
    bad = tmp_path / "pipeline/data/split.py"
    bad.write_text("def late():\n    from pipeline.models import users\n")
    assert {room_of(file) for file in closure(bad)} == {"pipeline/data", "pipeline/models"}
    with pytest.raises(AssertionError):
        test_imports_go_left_only(bad)


def test_every_stage_has_its_block_and_every_block_its_stage():
    assert {stage_of(block) for block in BLOCKS} == STAGES - COMMANDS
    for block in BLOCKS:
        assert f"python -m stages.{stage_of(block)} " in BLOCKS[block]["cmd"]


def test_files_are_short():
    for file in FILES:
        lines = len(file.read_text().splitlines())
        assert lines <= (300 if file.is_relative_to(ROOT / "pipeline") else 120), file


def test_paths_stand_in_dvc_yaml_alone():
    for file in FILES:
        for line in file.read_text().splitlines():
            assert not re.search(r"""["']artifacts/""", line) or "report.md" in line, (
                f"{file}: {line}"
            )


def test_choices_by_name_are_visible():
    for file in FILES:
        assert "eval(" not in re.sub(r"\w\.eval\(", "", file.read_text()).replace(".eval()", "")


def test_options_of_a_stage_are_those_its_block_gives():
    for block, content in BLOCKS.items():
        app = typer.Typer()
        app.command()(importlib.import_module(f"stages.{stage_of(block)}").main)
        known = {word for option in typer.main.get_command(app).params for word in option.opts}
        given = set(re.findall(r"--[a-z_-]+", content["cmd"]))
        assert given <= known, f"{block}: {given - known}"
