"""params.yaml: an unknown, missing or mistyped key stops the stage and is named."""

import copy
import importlib
import io
import sys
import types
import typing
from pathlib import Path

import pytest
from dvc_data.hashfile.meta import Meta
from pydantic import ValidationError
from ruamel.yaml import YAML
from stub_flow import ROOT

from pipeline import command
from pipeline.data import agreement, lists, presets
from pipeline.models import users
from pipeline.params import Params, Section
from pipeline.training import runs

FILES = [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))]
SHIPPED = YAML(typ="safe").load(ROOT / "params.yaml")


def readers():
    """What each stage reads, by the stage; run stages read by their tower."""
    found = {"lists": lists.Lists}
    for path in sorted((ROOT / "stages").glob("[a-z]*.py")):
        module = importlib.import_module(f"stages.{path.stem}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Params) and value is not Params:
                found[path.stem] = value
    return found | {f"run of {tower}": settings for tower, settings in runs.SETTINGS.items()}


READERS = readers()


def models(annotation):
    """The sections that an annotation holds, within dict, list or union."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [one for inner in typing.get_args(annotation) for one in models(inner)]


def places(model, at=()):
    """Every section below a model: where it stands, and its class; alternatives left out."""
    for name, field in model.model_fields.items():
        match [field.annotation, *typing.get_args(field.annotation)]:
            case [section] | [_, section, types.NoneType]:
                if isinstance(section, type) and issubclass(section, Section):
                    yield (*at, name), section
                    yield from places(section, (*at, name))


SECTIONS = [(reader, at, model) for reader in READERS for at, model in places(READERS[reader])]
IDS = [f"{reader}-{'.'.join(at)}" for reader, at, _ in SECTIONS]


def below(content, at):
    for name in at:
        content = content[name]
    return content


def stops_at(reader, at, key, change):
    """Whether a change at a place is refused, in words that begin with place and key."""
    content = copy.deepcopy(SHIPPED)
    change(below(content, at))
    with pytest.raises(ValidationError) as caught:
        READERS[reader].model_validate(content)
    return any(error["loc"][: len(at) + 1] == (*at, key) for error in caught.value.errors())


def keys(value):
    """All keys that stand anywhere in what YAML holds."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {
        *(value if isinstance(value, dict) else ()),
        *(key for one in inner for key in keys(one)),
    }


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_dvcs_cache_of_runs_looks_past_no_key(path):
    """Of two values of such a key, it would give the results of the first to both."""
    assert not keys(presets.read(path)) & agreement.UNSEEN


def test_no_section_has_a_key_that_dvcs_cache_of_runs_looks_past():
    assert {Meta.PARAM_SIZE, Meta.PARAM_NFILES} == agreement.UNSEEN
    sections = command._below(Section)
    assert {"Covers", "Preprocess", "Spec", "DemoEncoder"} <= {one.__name__ for one in sections}
    named = {(one.__name__, name) for one in sections for name in one.model_fields}
    assert not {one for one in named if one[1] in agreement.UNSEEN}


@pytest.mark.parametrize(("reader", "at", "model"), SECTIONS, ids=IDS)
def test_an_unknown_key_stops(reader, at, model):
    """And all keys there may be are named."""
    content = copy.deepcopy(SHIPPED)
    below(content, at).update(tpyo=1)
    with pytest.raises(ValidationError) as caught:
        READERS[reader].model_validate(content)
    (error,) = caught.value.errors()
    assert error["loc"] == at
    assert error["msg"] == f"there is no 'tpyo'; the keys are {', '.join(model.model_fields)}"


@pytest.mark.parametrize(("reader", "at", "model"), SECTIONS, ids=IDS)
def test_a_missing_key_stops_as_there_are_no_defaults(reader, at, model):
    for key, field in model.model_fields.items():
        if model is users.UserEncoders:  # whether those in use are there, `settings_of` sees
            assert not field.is_required()
        else:
            assert stops_at(reader, at, key, lambda section, key=key: section.pop(key))


@pytest.mark.parametrize(("reader", "at", "model"), SECTIONS, ids=IDS)
def test_a_mistyped_value_stops(reader, at, model):
    for key in model.model_fields:
        value = below(SHIPPED, at)[key]
        for wrong in (str(value) if isinstance(value, int | float) else 7, None, {"a": 1}):
            change = {key: wrong}
            assert stops_at(reader, at, key, lambda section, change=change: section.update(change))


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_section_or_list_stops(reader):
    for name in READERS[reader].model_fields:
        assert stops_at(reader, (), name, lambda content, name=name: content.pop(name))
        assert stops_at(
            reader, (), name, lambda content, name=name: content.update({name: "a word"})
        )


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write a params.yaml, run a stage that reads it, and give the message it stops with."""

    def stop(reader, text, capsys):
        (tmp_path / "params.yaml").write_text(text)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["stage"])

        def main() -> None:
            """Read."""
            READERS[reader].load()

        with pytest.raises(SystemExit) as caught:
            command.run(main)
        assert caught.value.code == 1
        return capsys.readouterr().err

    return stop


def text_with(at, key, value):
    """The shipped params.yaml with a value at a place, or without the key there."""
    content = copy.deepcopy(SHIPPED)
    below(content, at)[key] = value
    if value is None:
        del below(content, at)[key]
    written = io.StringIO()
    YAML().dump(content, written)
    return written.getvalue()


@pytest.mark.parametrize(
    ("reader", "at", "key", "value", "problem"),
    [
        ("evaluate", ["evaluate"], "cutoffs", None, "evaluate.cutoffs: Field required\n"),
        (
            "evaluate", ["evaluate"], "cutofs", [7],
            "evaluate: there is no 'cutofs'; the keys are cutoffs\n",
        ),
        (
            "prepare", ["prepare"], "max_unknown", "0.0",
            "prepare.max_unknown: Input should be a valid number (found: '0.0')",
        ),
        ("run of end2end", ["end2end", "trainable"], "layers", "most", "(found: 'most')"),
        ("run of end2end", ["end2end", "trainable"], "layers", "most", "end2end.trainable.layers"),
        ("run of id", [], "seeds", [], "seeds: List should have at least 1 item"),
        ("run of id", ["protocol"], "mask", "windo", "protocol.mask: Input should be 'window'"),
        ("lists", [], "contents", ["sound"], "contents.0: Input should be 'text', 'image' or"),
        ("lists", [], "targets", None, "targets: Field required\n"),
    ],
)  # fmt: skip
def test_the_message_names_file_key_and_value(written, capsys, reader, at, key, value, problem):
    message = written(reader, text_with(at, key, value), capsys)
    assert message.startswith("\nstopped: params.yaml does not fit:\n")
    assert problem in message
    assert len(message) < 1000, "not the whole file again"


def test_a_file_that_is_no_yaml_stops_with_its_line(written, capsys):
    message = written("lists", "demo: []\ntargets: [near\nusers: [sasrec]\n", capsys)
    assert "params.yaml" in message and "line 3" in message


@pytest.mark.parametrize("text", ["", "[near, far]\n", "a word\n"], ids=["empty", "list", "word"])
def test_a_file_without_sections_stops(written, capsys, text):
    assert "stopped: params.yaml" in written("lists", text, capsys)


@pytest.mark.parametrize("number", ["1e-3", "1.0e-3", "1E-3", "0.001"])
def test_a_number_with_an_exponent_is_a_number(tmp_path, monkeypatch, number):
    text = text_with(["training"], "learning_rate", "THE NUMBER").replace("THE NUMBER", number)
    (tmp_path / "params.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert runs.SETTINGS["id"].load().training.learning_rate == 0.001


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_every_shipped_file_serves_every_stage_and_its_lists_agree(file, tmp_path, monkeypatch):
    YAML().dump(presets.read(file), tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    agreed = lists.Lists.load()
    agreement.check(agreed)
    for name, reader in READERS.items():
        if agreed.demo or not name.startswith("demo"):
            reader.load()


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_every_shipped_file_has_a_home_for_its_sections(file):
    read = {field for reader in READERS.values() for field in reader.model_fields}
    assert set(presets.read(file)) <= read


def test_sections_cannot_be_changed_after_reading(monkeypatch):
    monkeypatch.chdir(ROOT)
    settings = runs.SETTINGS["end2end"].load()
    with pytest.raises(ValidationError, match="frozen"):
        settings.training.epochs = 1
    with pytest.raises(ValidationError, match="frozen"):
        settings.seeds = [1]
    assert Path("params.yaml").exists()
