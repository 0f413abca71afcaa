import json
import re
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from PIL import Image

from pipeline import params
from pipeline.data import files
from pipeline.reporting import evidence, figures
from pipeline.reporting.markdown import MINUS, NOTHING

PAIR = f"end2end {MINUS} frozen"
FIGURES = ("scores", "differences", "cost", "slices", "curves")


def rows(text, first):
    """The cells of the table rows that begin with a cell."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def rename(world, old, new):
    """Call a target something else, in params.yaml and wherever its outputs are."""
    text = params.FILE.read_text()
    params.FILE.write_text(text.replace(f"[{old}, ", f"[{new}, "))
    for folder in ("prepare", "cards", "evaluate", "runs", "costs"):
        for path in sorted((world.root / folder).glob(f"{old}*")):
            path.rename(path.with_name(path.name.replace(old, new)))


def test_the_report_is_whole(world):
    text = world.report(is_drawn=True)
    out = world.root / "report"
    for run in ("id", "frozen", "end2end", "tuned_zeroshot", "popularity", "content kNN"):
        assert len(rows(text, run)) == 2  # once a target, with its cost
    assert [row[1] for row in rows(text, "near")][:2] == ["test", "validation"]
    assert "over users, one training, one pre-training" in text
    assert "3 in test" in text  # held-out items out of reach
    assert rows(text, "random")[0][1] == f"{100 * 10 / 290:.2f}"
    for what in FIGURES:
        assert f"](figures/{what}-text-sasrec.png)" in text
        picture = Image.open(out / "figures" / f"{what}-text-sasrec.png")
        assert picture.width > 600 and picture.height > 300
    assert "oracle" not in text and "†" not in text and "NineRec" not in text


def test_differences_are_claimed_where_they_are(world):
    """end2end was made better than frozen on near, and no better on far."""
    text = world.report()
    near, far = (next(r for r in rows(text, target) if PAIR in r) for target in ("near", "far"))
    assert (near[6], far[6]) == ("higher", "not shown")
    assert near[4].startswith("+")
    assert "all 24 differences" in text  # 6 pairs, 2 targets, 2 metrics
    assert re.search(rf"\*\*{PAIR}\*\*: higher: near \+[\d.]+; no difference shown", text)


def test_no_conclusion_is_drawn_from_a_capped_run(world):
    world.evaluate("near", capped=["end2end"])
    text = world.report()
    row = next(r for r in rows(text, "near") if PAIR in r)
    assert row[6] == "capped" and row[4].endswith("†")
    assert rows(text, "end2end")[0][1].endswith("†")
    assert not rows(text, "frozen")[0][1].endswith("†")
    assert "† The run, or the source's model" in text
    assert "capped, no conclusion: near" in text


def test_a_capped_source_marks_the_runs_that_start_from_it(world):
    world.cost("pretrain/old-text-frozen-sasrec", seconds=100.0, capped=True)
    text = world.report()
    for run, is_marked in [("frozen", False), ("frozen_transfer", True), ("id", False)]:
        assert rows(text, run)[0][1].endswith("†") == is_marked
    assert rows(text, "frozen_zeroshot")[0][1].endswith("†")


def test_costs_with_and_without_pretraining(world):
    """Two targets share the source's 1,000 s (end2end) and 100 s (frozen); tuning embeds 20 s."""
    world.cost("embed_tuned/near-old-text-sasrec", seconds=20.0)
    world.cost("embed/near-text", seconds=5.0)
    world.cost("embed/dropped-text", seconds=5.0)  # a domain that params.yaml no longer lists
    text = world.report()
    near = {row[0]: row[5:7] for row in [*rows(text, "frozen")[:1], *rows(text, "id")[:1]]}
    assert near == {"frozen": ["30.0 s", NOTHING], "id": ["30.0 s", NOTHING]}
    assert rows(text, "frozen_transfer")[0][5:7] == ["30.0 s", "1 min 20 s"]  # 30 + 100 / 2
    assert rows(text, "tuned_transfer")[0][5:7] == ["30.0 s", "9 min 10 s"]  # 30 + 500 + 20
    assert rows(text, "tuned_transfer")[1][5:7] == ["30.0 s", "8 min 50 s"]
    assert rows(text, "end2end_transfer")[0][6] == "15 min 20 s"  # 400 + 500 + 20
    assert rows(text, "id")[0][7:] == [
        "120", "2.50 GB", "1,000,000", "23,000,000", "12", "2", "2 cores",
    ]  # fmt: skip
    assert rows(text, "embed/near-text")[0][1] == "5.0 s"
    assert "dropped-text" not in text


def test_overlap_and_slices(world):
    text = world.report()
    assert any(
        row[1] == "150 of 300 (50.0 %)" and row[3].startswith("0 of") for row in rows(text, "near")
    )
    assert any(row[1] == "0 of 300 (0.0 %)" for row in rows(text, "far"))
    near = {row[1]: row for row in rows(text, "near") if "in the source" in row[1]}
    far = {row[1]: row for row in rows(text, "far") if "in the source" in row[1]}
    counts = [int(near[name][2].replace(",", "")) for name in near]
    assert sum(counts) == 1500 and min(counts) > 600
    assert far["in the source"][2:4] == ["0", NOTHING]


def test_the_metrics_and_plots_of_dvc(world):
    world.report()
    out = world.root / "report"
    found = json.loads((out / "metrics.json").read_text())
    frozen = found["near-text-sasrec"]["frozen"]
    assert 0 < frozen["hr@10_low"] < frozen["hr@10"] < frozen["hr@10_high"] < 1
    assert 0 < frozen["valid_ndcg@10"] < 1
    assert found["far-text-sasrec"]["random"]["hr@10"] == 10 / 290
    bars = pl.read_csv(out / "bars" / "near-text-sasrec.csv")
    assert bars.columns[:4] == ["run", "hr@10", "hr@10_low", "hr@10_high"]
    curve = pl.read_csv(out / "curves" / "near-text-sasrec-id.csv")
    assert {"epoch", "hr@10"} <= {*curve.columns} and len(curve) == 12


def test_the_same_inputs_give_the_same_bytes(world):
    world.report()
    first = files.sha256(world.root / "report")
    world.report()
    assert files.sha256(world.root / "report") == first


def test_several_seeds(tmp_path, monkeypatch, make_world):
    world = make_world(tmp_path, monkeypatch, seeds=(1, 2, 3))
    text = world.report()
    assert "over users, the mean of 3 trainings, one pre-training" in text
    assert re.fullmatch(r"[\d.]+ \[[\d.]+, [\d.]+\] ± [\d.]+", rows(text, "frozen")[0][1])
    assert "±" not in rows(text, "frozen_zeroshot")[0][1]  # nothing of it is random
    assert "exceeds the standard deviation between seeds" in text


def test_without_a_source_there_are_the_scratch_runs_alone(world):
    params.FILE.write_text(params.FILE.read_text().replace("[old]", "[]"))
    text = world.report()
    assert "one training." in text and "pre-training." not in text
    assert not rows(text, "frozen_transfer") and rows(text, "end2end")
    assert "in the source" not in text
    assert "all 4 differences" in text  # 1 pair, 2 targets, 2 metrics


def test_with_ids_alone_nothing_is_compared(world):
    text = params.FILE.read_text().replace("[old]", "[]")
    text = text.replace("frozen: [frozen]", "frozen: []", 2).replace(
        "end2end: [end2end]", "end2end: []"
    )
    params.FILE.write_text(text)
    assert "Differences" not in world.report()


def test_the_oracle_is_a_row_where_it_is_known(world):
    path = world.root / "cards" / "near" / "prepare" / "card.json"
    files.write_json(path, {**files.read_json(path), "oracle": {"hr@10": 0.4321}})
    text = world.report()
    (row,) = rows(text, "oracle")
    assert row[1:5] == ["43.21", NOTHING, NOTHING, NOTHING]
    assert rows(text, "near")[0][-1] == "43.21" and rows(text, "far")[0][-1] == NOTHING


@pytest.mark.parametrize("name", ["ku", "Bili_Food"])
def test_published_numbers_stand_beside_those_of_ninerecs_data(world, name):
    rename(world, "near", name)
    path = world.root / "cards" / name / "prepare" / "card.json"
    files.write_json(path, files.read_json(path) | {"domain": name})
    text = world.report()
    published = {"ku": ["28.36", "30.77", "31.36"], "Bili_Food": ["18.09", "18.03", "19.59"]}[name]
    shown = name.replace("_", "_")
    row = next(r for r in rows(text, shown) if r[1] == published[0])
    assert row[1::2] == published
    assert "2309.07705" in text


def test_a_domain_is_known_by_its_folder_too(world):
    path = world.root / "cards" / "near" / "prepare" / "card.json"
    files.write_json(path, files.read_json(path) | {"source": "QB_behaviour.tsv"})
    assert any("33.92" in row for row in rows(world.report(), "near"))


class Tags(HTMLParser):
    """Collects what HTML would take for a tag."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)


def test_text_of_the_data_is_no_markup(world):
    text = world.report()
    assert "<b>" not in text and "&lt;b&gt;odd&lt;/b&gt; \\| rows" in text
    tags = Tags()
    tags.feed(text)
    assert tags.found == []


def test_a_missing_evaluation_is_named(world):
    (world.root / "evaluate" / "far-text-sasrec" / "metrics.json").unlink()
    with pytest.raises(files.Stop, match=r"far-text-sasrec holds no evaluation.*dvc repro"):
        world.report()
    assert not (world.root / "report").exists()


def test_a_run_that_was_not_evaluated_is_named(world):
    path = world.root / "evaluate" / "far-text-sasrec" / "ranks.parquet"
    pl.read_parquet(path).filter(pl.col("run") != "end2end").write_parquet(path)
    with pytest.raises(files.Stop, match="does not hold the run 'end2end'"):
        world.report()


def test_every_run_has_a_look_of_its_own():
    looks = {style[:4] for style in figures.STYLES.values()}
    assert len(looks) == len(figures.STYLES)


def test_groups_of_one_series_stand_together():
    wanted = evidence.Wanted([], ["a", "b"], ["text", "both"], ["sasrec"], ["id"], [1])
    assert [g.name for g in wanted.groups()] == [
        "a-text-sasrec", "b-text-sasrec", "a-both-sasrec", "b-both-sasrec",
    ]  # fmt: skip


def test_values_are_those_of_the_ranks(world):
    """The report's averages are those of `evaluate` on the same ranks."""
    text = world.report()
    ranks = pl.read_parquet(world.root / "evaluate" / "near-text-sasrec" / "ranks.parquet")
    own = ranks.filter(run="frozen", split="test")
    share = np.mean((own["better"].to_numpy() < 10) & (own["tied"].to_numpy() > 0))
    assert rows(text, "frozen")[0][1].startswith(f"{100 * share:.2f} [")
