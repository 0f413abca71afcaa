"""The map is a test: who imports whom, and what dvc.yaml says of code and params."""

import ast
import importlib
import inspect
import re
import typing
from pathlib import Path

import pytest
import typer
from ruamel.yaml import YAML

from pipeline.data import kinds
from pipeline.models.items import TowerSettings
from pipeline.params import Params
from pipeline.reporting import looks
from pipeline.training import runs

ROOT = Path(__file__).parents[1]
FLOW = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
BLOCKS = {name: block.get("do", block) for name, block in FLOW.items()}
# Each imports from its left.
ROOMS = ["data", "retrieval", "content", "models", "training"]
# Rooms that none of them imports, and what each may import beside itself.
ASIDE = {"reporting": {"data", "retrieval"}, "download": {"data"}}
COMMANDS = {"repro", "preset", "breakeven", "verify", "export"}  # outside the flow
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


TRAINING = ("train", "transfer", "pretrain", "baseline")  # stages


@pytest.mark.parametrize("stage", TRAINING)
def test_a_checkpoint_is_of_all_the_code_that_its_stage_reaches(stage):
    own = ROOT / f"stages/{stage}.py"
    reached = {room_of(file) for file in closure(own) - {own, ROOT / "pipeline/command.py"}}
    assert sorted(str(path.relative_to(ROOT)) for path in runs.CODE) == sorted(reached)


def test_figures_know_the_same_runs_in_one_order():
    assert [*kinds.RUNS] == [*looks.STYLES]


def sections_read_by(block):
    """The sections of params.yaml that a block's stage names in its Params."""
    if stage_of(block) in TRAINING:
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


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_that_names_keys_of_the_tower_leaves_out_the_papers_head_alone(block):
    named = {param for param in BLOCKS[block].get("params", []) if param.startswith("tower.")}
    keys = {f"tower.{key}" for key in TowerSettings.model_fields}
    assert named in (set(), keys - {"tower.paper_head"})


def name_of(room):
    return room.removeprefix("pipeline/")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_left_only(file):
    room = name_of(room_of(file))
    for other in map(room_of, imports(file)):
        if room in ROOMS:
            name = name_of(other)
            assert name not in ROOMS or ROOMS.index(name) <= ROOMS.index(room), other
            assert name not in ASIDE and not other.startswith("stages/"), other
        elif room in ASIDE:
            assert name_of(other) in {*ASIDE[room], room, "params.py"}, other
        elif room.startswith("stages/"):
            assert not other.startswith("stages/"), "a stage never imports a stage"


def packages(file):
    """The top names of all that a file imports, by statement or by name, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


WITHOUT_TORCH = [
    *(file for room in ("data", "download", "retrieval", "reporting")
      for file in sorted((ROOT / "pipeline" / room).glob("*.py"))),
    *(ROOT / f"stages/{stage}.py"
      for stage in ("prepare", "covers", "evaluate", "report", "verify", "export")),
]  # fmt: skip
TORCH = {"torch", "torchvision", "sentence_transformers", "transformers", "open_clip", "timm"}


@pytest.mark.parametrize("file", WITHOUT_TORCH, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_judges_needs_no_torch(file):
    for other in closure(file):
        assert not packages(other) & TORCH, f"{file} reaches torch in {other}"


@pytest.mark.parametrize(
    "line",
    ["import torch", "import torch.nn as nn", "from torch import nn", "import numpy, torch",
     "def late():\n    from torch.nn import functional"],
)  # fmt: skip
def test_torch_would_be_seen_however_it_is_imported(tmp_path, monkeypatch, line):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "pipeline/data").mkdir(parents=True)
    (tmp_path / "pipeline/data/deep.py").write_text(line)
    near = tmp_path / "pipeline/data/near.py"
    near.write_text("from pipeline.data import deep\n")
    with pytest.raises(AssertionError, match="reaches torch"):
        test_what_judges_needs_no_torch(near)
    near.write_text("# import torch\nimport torchless\n")
    test_what_judges_needs_no_torch(near)


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


# Where something is looked up by a name that is not written there, and why that is no choice.
BY_NAME = {
    ("pipeline/command.py", "import_module"): "all stages there are, to see what each reads",
    ("pipeline/content/image.py", "getattr"): "mean and std of a preprocessing, named beside it",
    ("pipeline/content/specification.py", "getattr"): "fields of a model, listed by the model",
    (
        "pipeline/content/text_models.py",
        "import_module",
    ): "weights' package, from the dict PACKAGED",
    ("pipeline/data/demo.py", "getattr"): "the sections of the domains, named in DIALECTS",
}


def choices_by_name(file):
    """The calls of a file that turn a text into code, an attribute or a module."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call):
            continue
        is_plain = isinstance(node.func, ast.Name)
        called = node.func.id if is_plain else getattr(node.func, "attr", "")
        is_written = len(node.args) > 1 and isinstance(node.args[1], ast.Constant)
        by_text = {"eval", "exec", "compile", "__import__", "globals", "locals"} & {called}
        by_text |= {"getattr", "setattr"} & {called} if not is_written else set()
        found |= (by_text if is_plain else set()) | ({"import_module"} & {called})
    return found


def test_choices_by_name_are_visible():
    found = {(str(f.relative_to(ROOT)), call) for f in FILES for call in choices_by_name(f)}
    assert found == {*BY_NAME}


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("eval(text)", "eval"),
        ("exec(text)", "exec"),
        ("getattr(module, name)", "getattr"),
        ("getattr(module, name + 'Trainer', None)", "getattr"),
        ("importlib.import_module(name)", "import_module"),
        ("import_module('torch')", "import_module"),
        ("__import__(name)", "__import__"),
        ("globals().get(name)", "globals"),
    ],
)
def test_a_choice_by_name_would_be_seen(tmp_path, line, call):
    file = tmp_path / "file.py"
    file.write_text(line)
    assert choices_by_name(file) == {call}
    file.write_text("model.eval()\ngetattr(model, 'trunk', None)\nre.compile('a')\n")
    assert choices_by_name(file) == set()


def kind_of(option):
    """The type of an option of a `main`: what is annotated, a list of words being words."""
    kind = typing.get_args(option.annotation)[0]
    return str if typing.get_origin(kind) is typing.Literal else kind


def spelled(name, option):
    """An option as a command spells it: as declared, or by its name."""
    about = typing.get_args(option.annotation)[1]
    declared = [
        word for word in (about.default, *(about.param_decls or ())) if isinstance(word, str)
    ]
    return declared[0] if declared else f"--{name}"


@pytest.mark.parametrize("block", BLOCKS)
def test_options_are_paths_and_the_keys_of_the_flow(block):
    """A stage is told where and which, never how: numbers stand in params.yaml alone."""
    command = BLOCKS[block]["cmd"]
    main = importlib.import_module(f"stages.{stage_of(block)}").main
    for name, option in inspect.signature(main).parameters.items():
        kind = kind_of(option)
        assert kind in (Path, Path | None, str), f"{block}: {name} is {kind}"
        if kind is str:
            value = re.search(rf"{spelled(name, option)} (\S+)", command)[1].strip('"')
            is_key = re.fullmatch(r"\$\{(key|item(\.\w+)?)\}", value) or value in {"text", "image"}
            assert is_key, f"{block}: {name} is given {value}, no key that the flow fans out over"


def test_options_of_a_stage_are_those_its_block_gives():
    for block, content in BLOCKS.items():
        app = typer.Typer()
        app.command()(importlib.import_module(f"stages.{stage_of(block)}").main)
        options = typer.main.get_command(app).params
        known = {word for option in options for word in option.opts}
        required = {option.opts[0] for option in options if option.required}
        given = set(re.findall(r"--[a-z_-]+", content["cmd"]))
        assert given <= known, f"{block}: {given - known}"
        assert required <= given, f"{block}: {required - given}"
