"""The break-even command: each number of users in a work tree of its own, then the curve."""

import re
import subprocess
from pathlib import Path

import known_results
import polars as pl
import pytest
import stub_flow
from ruamel.yaml import YAML

from pipeline.data import files
from stages import breakeven

THERE = 40  # users of the stub's domain
HITS = {10: {"id": 1, "frozen": 4, "end2end": 4}, 0: {"id": 4, "frozen": 10, "end2end": 30}}
COMMAND = [
    "python3", "-m", "stages.breakeven", "--scratch", "artifacts/scratch",
    "--cards", "artifacts/cards", "--evaluated", "artifacts/evaluate",
    "--costs", "artifacts/costs", "--out", "artifacts/breakeven",
]  # fmt: skip
GROUP = ("near", "text", "sasrec")
# What the stub's `prepare` and `evaluate` write besides: a card, and results made beforehand.
KNOWN = """
def known(stage, options, made, outputs=outputs):
    outputs(stage, options, made)
    users = int(re.search(r"max_users: (\\d+)", Path("params.yaml").read_text())[1])
    if stage == "prepare":
        there = int(os.environ["THERE"])
        write(Path(options["card"]) / "card.json", '{"users": %d}' % min(users or there, there))
    if stage == "evaluate":
        if os.environ.get("FAILS") == str(users):
            sys.exit("evaluate fails")
        for file in (Path(os.environ["RESULTS"]) / str(users)).rglob("evaluate/*/*.*"):
            (Path(options["out"]) / file.name).write_bytes(file.read_bytes())


outputs = known
"""


@pytest.fixture(scope="module")
def known_flow(tmp_path_factory):
    """The small flow, committed and not run yet, whose `evaluate` writes what the curve reads."""
    home = stub_flow.environment(tmp_path_factory.mktemp("env") / "env")
    stub = home / "bin/python"
    begin = '\nif __name__ == "__main__":'
    stub.write_text(stub.read_text().replace(begin, KNOWN + begin))
    folder = tmp_path_factory.mktemp("known") / "repo"
    return stub_flow.make(folder, home, **stub_flow.text_alone(), seeds=[3])


@pytest.fixture
def curve(known_flow, tmp_path):
    """The flow for one test, and its command; results by number of users lie beside it."""
    flow = known_flow.copy(tmp_path / "repo")
    for users, hits in HITS.items():
        root = tmp_path / "results" / str(users)
        known_results.write(root, GROUP, users or THERE, hits, seeds=(3,))
    env = {"RESULTS": str(tmp_path / "results"), "THERE": str(THERE)}

    def run(*users, preset="params.yaml", words=(), **more):
        asked = [word for number in users for word in ("--users", str(number))]
        return flow.run(*COMMAND, "--preset", preset, *asked, *words, env=env | more)

    return flow, run


def params_of(flow, name):
    return YAML(typ="safe").load(flow.folder / f".worktrees/{name}/params.yaml")


def test_every_number_of_users_runs_once_in_a_tree_of_its_own(curve):
    """First the second one fails, then all is done, then there is nothing to do."""
    flow, run = curve
    own = (flow.folder / "params.yaml").read_bytes()
    out = flow.folder / "artifacts/breakeven"
    failed = run(0, 10, FAILS="0")
    assert failed.returncode != 0 and not out.exists()
    assert (flow.folder / ".worktrees/params-10/artifacts/report/report.md").exists()

    done = run(0, 10)
    assert done.returncode == 0, done.stderr
    assert stub_flow.ran(done.stdout) == {"evaluate@near-text-sasrec", "report"}
    assert "-> artifacts/breakeven/breakeven.md" in done.stdout
    contents = {path.name: path.read_bytes() for path in out.iterdir()}
    assert {*contents} == {"breakeven.md", "breakeven.csv", "breakeven.png"}
    assert [params_of(flow, f"params-{n}")["prepare"]["max_users"] for n in (10, 0)] == [10, 0]
    assert params_of(flow, "params-10")["seeds"] == [3]

    again = run(10, 0)
    assert again.returncode == 0, again.stderr
    assert stub_flow.ran(again.stdout) == set()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == contents
    assert (flow.folder / "params.yaml").read_bytes() == own
    assert not (flow.folder / "dvc.lock").exists()

    text = contents["breakeven.md"].decode()
    assert "**From 40 users on**" in text and "- no difference shown: 10 users 0.00" in text
    assert "](breakeven.png)" in text
    table = pl.read_csv(out / "breakeven.csv").filter(metric="hr@10")
    means = {(row["users"], row["run"]): row["mean"] for row in table.to_dicts()}
    assert means[10, "frozen"] == 0.4 and means[40, "end2end"] == 0.75
    assert means[40, "end2end - frozen"] == 0.5
    # The stub's costs are 1 s each: a run's is its own and that of the embedding.
    assert table.filter(users=40, run="frozen")["seconds"].to_list() == [2.0]


def test_more_users_than_there_are_stop_before_anything_is_trained(curve):
    flow, run = curve
    done = run(10, 41)
    assert done.returncode == 1
    assert "stopped: --users 41: near has 40 users; name fewer, or 0 for all of them" in done.stderr
    assert stub_flow.ran(done.stdout) == {"demo@demo", "prepare@near"}
    assert not (flow.folder / ".worktrees/params-10").exists()


def test_a_preset_names_its_data_and_their_script(curve):
    flow, run = curve
    params = YAML(typ="safe").load(flow.folder / "params.yaml")
    near = {"format": "ninerec", "folder": ".data/films/near", "covers": "", "language": "en"}
    (flow.folder / "presets").mkdir(exist_ok=True)
    domains = {"all": {"near": near}, "text": {"near": near}, "image": {}, "both": {}}
    with (flow.folder / "presets/curve.yaml").open("w") as file:
        YAML().dump({**params, "demo": [], "domains": domains}, file)
    words = ["--unpack", "nowhere.sh", "--data", "films"]
    missing = run(0, preset="presets/curve.yaml", words=words)
    assert missing.returncode == 1
    assert "script nowhere.sh is not there" in missing.stderr and ".data/films" in missing.stderr

    (flow.folder / "unpack.sh").write_text('mkdir "$1/near"; echo 1 > "$1/near/near_item.csv"')
    words[1] = "unpack.sh"
    done = run(THERE + 1, preset="presets/curve.yaml", words=words)  # so that it ends soon
    assert stub_flow.ran(done.stdout) == {"prepare@near"}, done.stderr
    folder = params_of(flow, f"curve-{THERE + 1}")["domains"]["text"]["near"]["folder"]
    assert folder == str(flow.folder / ".data/films/near")


@pytest.fixture
def preset(tmp_path, monkeypatch):
    """Write the shipped params.yaml with other sections, as a preset in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def write(**sections):
        shipped = YAML(typ="safe").load(stub_flow.ROOT / "params.yaml")
        with Path("mine.yaml").open("w") as file:
            YAML().dump({**shipped, "targets": ["near"], **sections}, file)
        return Path("mine.yaml")

    return write


def test_a_preset_is_read(preset):
    group, seeds = breakeven.read(preset(seeds=[3, 1]), "", "", "")
    assert (group, seeds) == (("near", "both", "sasrec"), [3, 1])


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"targets": ["nowhere"]}, "'nowhere' in sources or targets"),
        ({"targets": ["near", "far"]}, "targets: ['near', 'far']: the curve is of one"),
        ({"contents": ["text", "both"]}, "contents: ['text', 'both']: the curve is of one"),
        ({"runs": None}, "does not fit:\n  runs: Input should be"),
        ({"seeds": ["x"]}, "does not fit:\n  seeds.0: Input should be"),
        ({"prepare": []}, "does not fit:\n  prepare: Input should be"),
    ],
)
def test_what_does_not_fit_stops_and_names_the_preset(preset, sections, message):
    with pytest.raises(files.Stop, match=re.escape("mine.yaml as params.yaml")) as caught:
        breakeven.read(preset(**sections), "", "", "")
    assert message in str(caught.value)


@pytest.mark.parametrize("arm", ["frozen", "end2end"])
def test_a_preset_without_an_arm_stops(preset, arm):
    runs = YAML(typ="safe").load(stub_flow.ROOT / "params.yaml")["runs"]
    message = f"mine.yaml as params.yaml: runs.{arm}: []: the curve compares"
    with pytest.raises(files.Stop, match=re.escape(message)):
        breakeven.read(preset(runs={**runs, arm: []}), "", "", "")


def test_a_preset_that_is_not_there_stops(tmp_path):
    with pytest.raises(
        files.Stop, match=r"--preset .*none\.yaml: there is no such file; name a params"
    ):
        breakeven.read(tmp_path / "none.yaml", "", "", "")


def test_the_shipped_preset_is_one_curve():
    group, seeds = breakeven.read(stub_flow.ROOT / "presets/break-even.yaml", "", "", "")
    assert (group, seeds) == (("ml1m", "text", "sasrec"), [0, 1, 2])


def test_points_of_different_commits_make_no_curve(tmp_path):
    trees = [tmp_path / name for name in ("one", "other")]
    for n, tree in enumerate(trees):
        tree.mkdir()
        for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", str(n)]):
            own = ["-c", "user.name=n", "-c", "user.email=e"]
            subprocess.run(["git", "-C", tree, *own, *words], check=True)
    breakeven.check_code([trees[0], trees[0]])
    with pytest.raises(files.Stop, match=r"a commit was made while .* run it again"):
        breakeven.check_code(trees)
