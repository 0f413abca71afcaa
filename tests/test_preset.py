"""A preset runs in a work tree of its own: the user's params, lock and report stay as they are."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import stub_flow
from ruamel.yaml import YAML
from stub_flow import ROOT

from pipeline.data import files, presets
from stages import preset

PRESET = ["python3", "-m", "stages.preset", "--scratch", "artifacts/scratch", "--preset"]


def snapshot(flow):
    """What must stay as it is in the user's checkout."""
    kept = [flow.folder / "params.yaml", flow.folder / "dvc.lock", flow.folder / "artifacts"]
    return [files.sha256(path) for path in kept]


def write_preset(flow, name="other", **sections):
    """A preset that is the user's params.yaml with other sections."""
    params = YAML(typ="safe").load(flow.folder / "params.yaml")
    file = flow.folder / f"presets/{name}.yaml"
    file.parent.mkdir(exist_ok=True)
    with file.open("w") as opened:
        YAML().dump({**params, **sections}, opened)
    return f"presets/{name}.yaml"


def test_a_preset_leaves_the_users_own_alone_and_shares_the_cache(small_flow):
    path = write_preset(small_flow, evaluate={"cutoffs": [5]})
    before = snapshot(small_flow)

    first = small_flow.run(*PRESET, path)
    assert first.returncode == 0, first.stderr
    assert stub_flow.ran(first.stdout) == {"evaluate@near-text-sasrec", "report"}, "the rest stands"
    tree = small_flow.folder / ".worktrees/other"
    assert "preset: report in .worktrees/other/artifacts/report/report.md" in first.stdout
    assert (tree / "artifacts/report/report.md").exists()
    assert YAML(typ="safe").load(tree / "params.yaml")["evaluate"] == {"cutoffs": [5]}

    second = small_flow.run(*PRESET, path)
    assert second.returncode == 0, second.stderr
    assert stub_flow.ran(second.stdout) == set()
    assert (tree / "artifacts/report/report.md").exists()

    assert snapshot(small_flow) == before
    assert small_flow.git("status", "--porcelain").strip() == "?? presets/"
    assert small_flow.status() == set()


def test_paths_that_leave_the_work_tree_are_those_of_the_checkout(small_flow, tmp_path):
    (small_flow.folder / ".data/other/near").mkdir(parents=True)
    (small_flow.folder / ".data/other/near/near_item.csv").write_text("1,2,3")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/model.bin").write_text("weights")
    near = {"format": "ninerec", "folder": ".data/other/near", "covers": "", "language": "en"}
    path = write_preset(
        small_flow,
        demo=[],
        domains={"all": {"near": near}, "text": {"near": near}, "image": {}, "both": {}},
        encoders={"text": "../weights", "image": "timm:resnet18"},
        origins={"text": "../weights/model.bin"},
    )
    done = small_flow.run(*PRESET, path)
    assert done.returncode == 0, done.stderr
    params = YAML(typ="safe").load(small_flow.folder / ".worktrees/other/params.yaml")
    assert params["domains"]["text"]["near"]["folder"] == str(small_flow.folder / near["folder"])
    assert params["encoders"] == {"text": str(tmp_path / "weights"), "image": "timm:resnet18"}
    assert params["origins"]["text"] == str(tmp_path / "weights/model.bin")
    assert "prepare@near" in stub_flow.ran(done.stdout)


def test_raw_files_that_a_work_tree_does_not_see_stop_it(small_flow):
    (small_flow.folder / "mine").mkdir()
    (small_flow.folder / "mine" / "mine_item.csv").write_text("1,2,3")
    mine = {"format": "ninerec", "folder": "mine", "covers": "", "language": "en"}
    domains = {"all": {"near": mine}, "text": {"near": mine}, "image": {}, "both": {}}
    path = write_preset(small_flow, demo=[], domains=domains)
    stopped = small_flow.run(*PRESET, path)
    assert stopped.returncode == 1
    assert (
        "domains.all.near.folder: 'mine': a preset has a work tree of its own, which sees of the "
        "checkout git's files and .data/ alone: move it there or beside the checkout, and name it"
    ) in stopped.stderr
    assert not (small_flow.folder / ".worktrees").exists()


@pytest.mark.parametrize("name", ["presets/none.yaml", "none", "presets"])
def test_an_unknown_preset_stops_and_names_those_there_are(small_flow_done, name):
    done = small_flow_done.run(*PRESET, name)
    assert done.returncode == 1
    known = ", ".join(sorted(f"presets/{p.name}" for p in (ROOT / "presets").glob("*.yaml")))
    if not (small_flow_done.folder / "presets").exists():
        known = "none"
    assert f"stopped: there is no preset {name}; there are: {known}" in done.stderr
    assert not (small_flow_done.folder / ".worktrees").exists()


def test_the_known_presets_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    with pytest.raises(files.Stop, match=r"presets/films-fashion\.yaml"):
        preset.main(tmp_path / "films", tmp_path / "scratch")


def test_without_a_commit_git_says_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name, copy in {"params.yaml": "mine.yaml", "dvc.yaml": "dvc.yaml"}.items():
        shutil.copy2(ROOT / name, tmp_path / copy)
    with pytest.raises(files.Stop, match="not a git repository"):
        preset.main(tmp_path / "mine.yaml", tmp_path / "scratch")


def test_a_preset_of_the_same_name_leaves_the_others_work_tree_alone(small_flow):
    path = write_preset(small_flow)
    assert small_flow.run(*PRESET, path, "prepare@near").returncode == 0
    params = small_flow.folder / ".worktrees/other/params.yaml"
    before = params.read_text()
    (small_flow.folder / "mine").mkdir()
    shutil.copy2(small_flow.folder / path, small_flow.folder / "mine/other.yaml")
    done = small_flow.run(*PRESET, "mine/other.yaml")
    assert done.returncode == 1
    assert ".worktrees/other is the work tree of presets/other.yaml, and mine/oth" in done.stderr
    assert params.read_text() == before


def test_lists_of_a_preset_that_do_not_agree_stop_before_anything_is_made(small_flow):
    done = small_flow.run(*PRESET, write_preset(small_flow, targets=["nowhere"]))
    assert done.returncode == 1
    expected = "stopped: presets/other.yaml as params.yaml: 'nowhere' in sources or targets"
    assert expected in done.stderr
    assert done.stdout == ""
    assert not (small_flow.folder / ".worktrees").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "mine.yaml as params.yaml is not YAML: while parsing"),
        ("demo: []\n", "mine.yaml as params.yaml does not fit:\n  domains: Field required"),
        # Of a mistyped name, not of the section that then is missing.
        ("demo: []\ntrainng: {}\n", "nothing reads ['trainng']: the sections are contents, "),
    ],
)
def test_what_is_no_whole_params_stops_and_names_the_preset(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(ROOT)
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(files.Stop, match=re.escape(message)):
        preset.read(tmp_path / "mine.yaml")


def test_a_section_that_nothing_reads_stops_and_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    shipped = (ROOT / "params.yaml").read_text()
    mine = tmp_path / "mine.yaml"
    mine.write_text(shipped)
    preset.read(mine)
    mine.write_text(shipped + "serch: {}\n")
    with pytest.raises(
        files.Stop, match=r"mine\.yaml as params\.yaml: nothing reads \['serch'\].*search, seeds"
    ):
        preset.read(mine)


@pytest.mark.parametrize("shipped", [ROOT / "params.yaml", *(ROOT / "presets").glob("*.yaml")])
def test_a_shipped_preset_fits_every_stage(shipped, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert preset.read(shipped)["seeds"] == presets.read(shipped)["seeds"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("  decays: ", "  decay: 1\n  decays: ", "training: there is no 'decay'; the keys are l"),
        ("  probe: true", "  probe: maybe", r"end2end\.probe: .* \(found: 'maybe'\)"),
        ("  text: sentence", "  text: {library: timm, model: a, revision: 2024-01-01}\n  #",
         r"encoders\.text\.str: .*\n  encoders\.text\.Spec\.revision: Input should be a valid "
         r"string \(found: the date 2024-01-01; if it is a name, write it in quotes\)"),
        ("  cutoffs: [", "  cutoff: 5\n  cutoffs: [", "evaluate: there is no 'cutoff'; the keys"),
        (" weight_decay: [],", " weight_decay: [0.1],", "search: weight_decay has 1 values and"),
    ],
)  # fmt: skip
def test_what_a_later_stage_would_stop_at_stops_now(tmp_path, monkeypatch, before, after, message):
    monkeypatch.chdir(ROOT)
    shipped = (ROOT / "params.yaml").read_text()
    assert shipped.count(before) == 1
    (tmp_path / "mine.yaml").write_text(shipped.replace(before, after))
    with pytest.raises(files.Stop, match=rf"mine\.yaml as params\.yaml does not fit:\n  {message}"):
        preset.read(tmp_path / "mine.yaml")


def test_the_users_own_lists_do_not_matter(small_flow):
    path = write_preset(small_flow)
    small_flow.edit(targets=["nowhere"])
    done = small_flow.run(*PRESET, path)
    assert done.returncode == 0, done.stderr
    assert stub_flow.ran(done.stdout) == set()


@pytest.mark.parametrize("changed", ["pipeline/reporting/plots.py", "requirements.txt"])
def test_code_that_is_not_committed_is_warned_of(small_flow, changed):
    with (small_flow.folder / changed).open("a") as file:
        file.write("# a comment\n")
    warned = small_flow.run(*PRESET, write_preset(small_flow), "--unpack", "nowhere.sh").stderr
    assert "uncommitted changes of the code are not in its work tree" in warned
    assert "the data's script nowhere.sh is not there" in warned  # so that it ends soon


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder to unpack to, and a way to write the script that does."""
    monkeypatch.chdir(tmp_path)

    def script(text):
        (tmp_path / "unpack.sh").write_text(text)
        return tmp_path / "unpack.sh"

    return tmp_path / ".data/films", script


def test_a_script_lays_the_data_out(data):
    folder, script = data
    preset.unpack_data(script('echo whole > "$1/a"\n'), folder)
    assert (folder / "a").read_text() == "whole\n"
    assert [path.name for path in folder.parent.iterdir()] == ["films"]


def test_a_script_that_fails_leaves_nothing_and_says_so(data):
    folder, script = data
    with pytest.raises(files.Stop, match=r"unpack\.sh failed with status 3; .*films was not made"):
        preset.unpack_data(script('echo half > "$1/a"; exit 3\n'), folder)
    assert [path.name for path in folder.parent.iterdir()] == []


def test_what_a_killed_script_left_is_swept_by_the_next_and_a_living_ones_is_not(data):
    folder, script = data
    dead = subprocess.Popen(["true"])
    dead.wait()
    left, living = (folder.parent / f".films.{pid}.part" for pid in (dead.pid, os.getppid()))
    for part in (left, living):
        part.mkdir(parents=True)
        (part / "half").touch()
    preset.unpack_data(script('echo whole > "$1/a"\n'), folder)
    assert {path.name for path in folder.parent.iterdir()} == {"films", living.name}
    assert [path.name for path in folder.iterdir()] == ["a"]


def test_a_missing_script_stops(data):
    folder, _ = data
    fix = r"name the right one with --unpack, or lay the raw data out in .*films yourself"
    with pytest.raises(files.Stop, match=rf"the data's script nowhere\.sh is not there: {fix}"):
        preset.unpack_data(Path("nowhere.sh"), folder)
    assert not folder.exists()
