"""Presets: a base's sections, those of its own instead, and paths as seen from a work tree."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.data import files, presets

WHOLE = "seeds: [0]\nsources: [a]\ntraining: {epochs: 3, patience: 1}\n"


@pytest.fixture
def written(tmp_path):
    """Write a preset beside a whole one, and give its path."""

    def write(text, base=WHOLE):
        (tmp_path / "whole.yaml").write_text(base)
        (tmp_path / "mine.yaml").write_text(text)
        return tmp_path / "mine.yaml"

    return write


def test_a_whole_file_is_read_as_it_is(written):
    assert presets.read(written(WHOLE)) == YAML(typ="safe").load(WHOLE)


def test_its_own_sections_take_the_place_of_the_bases_whole(written):
    text = "base: whole.yaml\ntraining: {epochs: 9}\nseeds: [1, 2]\nmore: {}\n"
    assert presets.read(written(text)) == {
        "seeds": [1, 2], "sources": ["a"], "training": {"epochs": 9}, "more": {},
    }  # fmt: skip


def test_a_base_may_have_a_base(written, tmp_path):
    (tmp_path / "first.yaml").write_text(WHOLE)
    path = written("base: whole.yaml\nseeds: [2]\n", "base: first.yaml\nsources: [b]\nseeds: [1]\n")
    read = {"seeds": [2], "sources": ["b"], "training": {"epochs": 3, "patience": 1}}
    assert presets.read(path) == read


def test_presets_of_one_name_do_not_share_a_work_tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree = tmp_path / "tree"
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets/x.yaml").touch()
    presets.check_owner(tree, Path("presets/x.yaml"))  # not made yet
    presets.claim(tree, Path("presets/x.yaml"))
    presets.check_owner(tree, tmp_path / "presets/x.yaml")  # the same one
    said = r"tree is the work tree of presets/x.yaml, and mine/x.yaml has the same name: rename"
    with pytest.raises(files.Stop, match=said):
        presets.check_owner(tree, Path("mine/x.yaml"))
    (tmp_path / "presets/x.yaml").unlink()  # moved, perhaps
    presets.check_owner(tree, Path("mine/x.yaml"))


@pytest.mark.parametrize("text", ["", "- 1\n", "word\n"])
def test_what_has_no_sections_is_left_to_who_checks_it(written, text):
    assert presets.read(written(text)) == YAML(typ="safe").load(text)


@pytest.mark.parametrize(
    ("named", "base", "message"),
    [
        ("none.yaml", WHOLE, "params.yaml: base: 'none.yaml': there is no "),
        ("whole.yaml", "base: mine.yaml\n", "mine.yaml stands on "),
        ("mine.yaml", WHOLE, "mine.yaml stands on "),
        ("whole.yaml", "[]\n", "whole.yaml holds no sections; name a params.yaml"),
        ("[1]", WHOLE, "params.yaml: base: [1]: there is no "),
    ],
)
def test_a_base_that_is_none_stops(written, named, base, message):
    with pytest.raises(files.Stop, match=re.escape(message)):
        presets.read(written(f"base: {named}\n", base))


def test_other_values_stay_as_they_are(tmp_path):
    value = {"a": ["x", "../y", 3], "b": {"c": ".data/z", "d": "artifacts/..", "e": ".database"}}
    assert presets.resolve(value, tmp_path / "main") == {
        "a": ["x", str(tmp_path / "y"), 3],
        "b": {"c": str(tmp_path / "main/.data/z"), "d": "artifacts/..", "e": ".database"},
    }


def test_a_shared_anchor_is_resolved_once(tmp_path):
    file = tmp_path / "preset.yaml"
    file.write_text("all: &all {near: {folder: ../raw}}\ntext: *all\n")
    resolved = presets.resolve(YAML().load(file), tmp_path / "main")
    assert resolved["text"]["near"]["folder"] == str(tmp_path / "raw")
