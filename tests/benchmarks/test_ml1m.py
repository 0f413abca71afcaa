import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import measure, ml1m
from benchmarks import ml1m_data as data
from benchmarks import ml1m_published as published
from benchmarks import ml1m_recipes as recipes
from benchmarks import ml1m_tables as tables
from pipeline.data import files, split
from pipeline.data import tables as prepared_tables
from pipeline.models.users import USER_ENCODERS
from tests.benchmarks.test_measure import MACHINE

SMALL = {**recipes.SASREC, "blocks": 1, "expansion": 1}
ROOT = Path(__file__).parents[2]
REAL = ROOT / data.FILE


def known(monkeypatch, file):
    """Let a file stand for the one that published values are of."""
    monkeypatch.setattr(data, "MD5", hashlib.md5(file.read_bytes()).hexdigest())
    return file


def write(file, rows):
    """Write histories [(user, items)] as `user item` lines."""
    lines = [f"{user} {item}" for user, items in rows for item in items]
    file.write_text("\n".join(lines) + "\n")
    return file


def chain(file, users=30, items=40):
    """Users of whom each goes through the items in their order, from another one on."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(1, users + 1):
        begin, length = rng.integers(items), rng.integers(6, 12)
        rows.append((user, [(begin + step) % items + 1 for step in range(length)]))
    return write(file, rows)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A made-up file, a small recipe, and a folder for results and their table."""
    monkeypatch.setattr(measure, "FOLDER", tmp_path / "benchmarks")
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks/README.md").write_text("<!-- ml1m -->\n<!-- /ml1m -->\n")
    training = {"loss": "full_softmax", "batch_users": 16, "epochs": 2}
    small = recipes.Recipe("sasrec-softmax", "sasrec", SMALL, training)
    monkeypatch.setitem(recipes.RECIPES, "small", small)
    known(monkeypatch, chain(tmp_path / "ml-1m.txt"))
    return tmp_path


def run(place, recipe="small", report=False, seed=0):
    ml1m.main([recipe], place / "ml-1m.txt", place / "work", seed, 1, report)


def result(place, recipe="small", seed="0"):
    return json.loads((place / "benchmarks/results/ml1m.json").read_text())[recipe][seed]


def test_a_run_writes_its_result_and_the_table(place):
    run(place)
    found = result(place)
    assert (found["epochs"], found["finished"], found["capped"]) == (2, True, True)
    assert found["best_epoch"] in (0, 1, 2)
    assert (found["users"], found["items"]) == (30, 40)
    for part in ("valid", "test"):
        hits = [found[part][f"hr@{k}"] for k in (5, 10, 20)]
        assert hits == sorted(hits) and hits[0] >= 0 and hits[2] <= 1
        assert found[part]["ndcg@10"] <= found[part]["hr@10"]
    # 41 rows of the id table; 200 positions; qkv 3, out 1, expand 1, contract 1 of 64 x 64, two
    # biases; three LayerNorms.
    assert found["parameters"] == 64 * (41 + 200 + 6 * 64 + 2 + 3 * 2)
    assert found["seconds"] > 0 and found["machine"]["threads"] == 1
    assert found["recipe"] == recipes.described(recipes.RECIPES["small"])
    assert [row["epoch"] for row in found["curve"]] == [0, 1, 2]
    text = (place / "benchmarks/README.md").read_text()
    assert f"| ours, small | **{found['test']['hr@10']:.4f}** |" in text
    assert "| SASRec+ | .3152 | .1821 | 64 | 200 | yes | antklen/sasrec-bert4rec-recsys23" in text
    assert "SASRec, binary" not in text, "no recipe of it is known"
    assert f"{found['parameters']:,} | capped | [1] |" in text


def test_its_validation_is_that_of_the_best_epoch(place):
    run(place)
    found = result(place)
    best = next(row for row in found["curve"] if row["epoch"] == found["best_epoch"])
    assert found["valid"]["ndcg@10"] == pytest.approx(best["ndcg@10"], abs=1e-12)
    assert best["ndcg@10"] == max(row["ndcg@10"] for row in found["curve"])


def test_a_finished_run_gives_its_result_again_without_a_step(place, monkeypatch):
    run(place)
    first = result(place)
    monkeypatch.setattr(ml1m.runs.loop.Phase, "step", lambda *_: pytest.fail("it trained again"))
    run(place)
    assert result(place) == first


KILLED = """
import os, signal, sys
from benchmarks import ml1m, ml1m_data, ml1m_recipes
from pipeline.training import loop
folder, md5, training = sys.argv[1], sys.argv[2], eval(sys.argv[3])
ml1m_data.MD5 = md5
small = ml1m_recipes.Recipe("sasrec-softmax", "sasrec", eval(sys.argv[4]), training)
ml1m_recipes.RECIPES["small"] = small
real = loop.run_epoch
def once(phase, *others):
    if phase.state.epoch == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    real(phase, *others)
loop.run_epoch = once
from pathlib import Path
ml1m.train("small", 0, 1, Path(folder) / "ml-1m.txt", Path(folder) / "work")
"""


def test_a_killed_run_goes_on_and_until_then_is_said_to_be_unfinished(place):
    small = recipes.RECIPES["small"]
    given = [str(place), data.MD5, repr(dict(small.training)), repr(dict(small.encoder))]
    words = [sys.executable, "-c", KILLED, *given]
    done = subprocess.run(words, cwd=ROOT, env=os.environ, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()

    run(place, report=True)
    found = result(place)
    assert (found["epochs"], found["finished"]) == (1, False) and "test" not in found
    assert found["valid"] == {"hr@10": found["valid"]["hr@10"], "ndcg@10": max(
        row["ndcg@10"] for row in found["curve"]
    )}  # fmt: skip
    text = (place / "benchmarks/README.md").read_text()
    assert f"unfinished: 1 epochs, best on validation at {found['best_epoch']}" in text

    run(place)
    resumed = result(place)
    whole = place / "whole"
    ml1m.keep("small", 1, ml1m.train("small", 0, 1, place / "ml-1m.txt", whole))
    other = result(place, seed="1")
    for key in ("test", "valid", "curve", "epochs", "best_epoch"):
        assert resumed[key] == other[key], key


def test_a_report_leaves_a_result_and_says_where_nothing_is(place, capsys):
    run(place, report=True)
    assert "small: nothing is trained in" in capsys.readouterr().err
    run(place)
    first = result(place)
    run(place, report=True)
    assert result(place) == first
    assert "small: its result stands already" in capsys.readouterr().err


def test_other_settings_in_the_same_folder_are_refused(place, monkeypatch):
    run(place)
    changed = recipes.RECIPES["small"]._replace(training={"loss": "bce", "epochs": 1})
    monkeypatch.setitem(recipes.RECIPES, "small", changed)
    with pytest.raises(files.Stop, match=r"small-0 holds a run of other settings than the recipe"):
        run(place)


def test_code_that_changed_on_the_way_is_marked(place, monkeypatch, tmp_path):
    run(place)
    assert result(place)["codes"] == 1
    (tmp_path / "changed.py").write_text("")
    monkeypatch.setattr(ml1m.runs, "CODE", [tmp_path / "changed.py"])
    run(place)
    assert result(place)["codes"] == 2
    assert "| capped, code changed on the way |" in (place / "benchmarks/README.md").read_text()


def test_the_split_by_hand(tmp_path, monkeypatch):
    """Three users; of the third, who has 204 items, a window of 203 is looked at."""
    long = list(range(101, 305))
    rows = [(1, [5, 9, 7, 6, 8]), (2, [9, 5, 6, 7, 8, 3]), (3, long)]
    file = known(monkeypatch, write(tmp_path / "ml-1m.txt", rows))
    found = prepared_tables.load(data.make(file, tmp_path / "work"))
    names = [int(name) for name in found.items["id"]]
    assert names == [3, 5, 6, 7, 8, 9, *long], "every item of the file, by its number"
    assert found.users["id"].to_list() == ["1", "2", "3"]

    parts = split.split(found.sequences, len(found.items), data.PROTOCOL)
    assert parts.candidates.sum() == len(names)

    def named(lists):
        return [[names[i - 1] for i in row] for row in np.split(lists.items, lists.offsets[1:-1])]

    assert [names[i - 1] for i in parts.test.items] == [8, 3, 304]
    assert [names[i - 1] for i in parts.valid.items] == [6, 8, 303]
    assert named(parts.train) == [[5, 9, 7], [9, 5, 6, 7], long[1:202]]
    # L = 200: the 200 items before the one that is predicted.
    assert named(parts.test.histories) == [[5, 9, 7, 6], [9, 5, 6, 7, 8], long[3:203]]
    assert named(parts.valid.histories) == [[5, 9, 7], [9, 5, 6, 7], long[2:202]]
    # Masked: all before it, past the window too.
    assert named(parts.test.masked) == [[5, 9, 7, 6], [9, 5, 6, 7, 8], long[:203]]
    assert named(parts.valid.masked) == [[5, 9, 7], [9, 5, 6, 7], long[:202]]


def test_a_packed_file_is_read_as_the_plain_one(tmp_path, monkeypatch):
    plain = known(monkeypatch, write(tmp_path / "ml-1m.txt", [(1, [5, 4]), (2, [4])]))
    packed = tmp_path / "ml-1m.txt.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert data.read(packed).rows() == [(1, 5), (1, 4), (2, 4)]
    assert data.read(plain).equals(data.read(packed))


def test_files_that_cannot_be_used_are_refused(tmp_path, monkeypatch):
    file = tmp_path / "ml-1m.txt"
    with pytest.raises(files.Stop, match=r"ml-1m.txt: no such file; it should be .* by --data"):
        data.make(file, tmp_path)
    write(file, [(1, [2])])
    with pytest.raises(files.Stop, match=r"its MD5 is \w{32}, and f7699aece.* is that of the file"):
        data.make(file, tmp_path)
    file.write_text("1 2\n1 x\n")
    with pytest.raises(files.Stop, match=r"ml-1m.txt: not lines `user item`: "):
        data.make(known(monkeypatch, file), tmp_path)


@pytest.mark.skipif(not REAL.exists(), reason=f"no {REAL}")
def test_the_real_file_has_the_counts_that_are_published(tmp_path):
    found = prepared_tables.load(data.make(REAL, tmp_path))
    assert (len(found.users), len(found.items)) == (6040, 3416)
    assert len(found.sequences.items) == 999_611


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_makes_settings_and_has_what_it_is_compared_with(name):
    recipe = recipes.RECIPES[name]
    made = recipes.settings(recipe, seed=3, threads=1)
    assert made.protocol.history == 200 and made.protocol.mask == "all"
    assert made.protocol.select == "ndcg@10" and made.training.epochs >= 300
    assert made.model.width == 64 and made.seeds == [3]
    assert recipe.user in USER_ENCODERS
    assert getattr(made.user_encoders, recipe.user).model_dump() == dict(recipe.encoder)
    assert published.MODELS[recipe.model].published


def test_an_unknown_recipe_is_refused():
    with pytest.raises(files.Stop, match=r"recipe 'x' is unknown; --recipe may name sasrec-softm"):
        recipes.named("x")


@pytest.mark.parametrize(
    ("hr", "ndcg", "capped", "said"),
    [
        (0.29, 0.186, False, "HR@10 within; NDCG@10 within"),
        (0.2899, 0.1861, False, "HR@10 below; NDCG@10 above"),
        (0.30, 0.17, True, "HR@10 within; NDCG@10 within; capped: its epochs ran out before"),
    ],
)
def test_a_result_is_told_from_what_is_expected(hr, ndcg, capped, said):
    one = {"test": {"hr@10": hr, "ndcg@10": ndcg}, "capped": capped}
    band = published.MODELS["sasrec-softmax"].band
    assert tables.verdict(one, band).startswith(said)
    assert tables.verdict(one | {"capped": False}, None) == ""


def test_recipes_of_other_machines_come_together(place):
    other = {
        "epochs": 7, "best_epoch": 5, "valid": {"hr@10": 0.2, "ndcg@10": 0.1}, "finished": False,
        "capped": False, "codes": 1, "seconds": 7200, "parameters": 1234, "machine": MACHINE,
    }  # fmt: skip
    ml1m.keep("sasrec-bce", 0, other)
    run(place)
    text = (place / "benchmarks/README.md").read_text()
    assert "| ours, sasrec-bce |  |  | 64 | 200 | yes | unfinished: 7 epochs" in text
    row = "| sasrec-bce | 0 | unfinished | unfinished | 0.2000, 0.1000 | 7 (5) | 2.00 | 1,234 |"
    assert f"{row}  | [1] |" in text and "- [1] 2026-01-02, Some CPU" in text
    assert "| expected | 0.235-0.255 | 0.125-0.136 |" in text
