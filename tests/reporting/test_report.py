import json
import re
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from PIL import Image

from pipeline import params
from pipeline.data import files, kinds
from pipeline.reporting import captions, cost_tables, evidence
from pipeline.reporting.markdown import MINUS, NOTHING
from tests.reporting.conftest import PAIRS, rename, rows

PAIR = f"end2end {MINUS} frozen"
FIGURES = ("scores", "differences", "cost", "slices", "curves")


def test_the_report_is_whole(world):
    text = world.report(is_drawn=True)
    out = world.root / "report"
    for run in ("id", "frozen", "end2end", "tuned_zeroshot", "popularity", "content kNN"):
        assert len(rows(text, run)) == 2  # once a target, with its cost
    assert [row[1] for row in rows(text, "near")][:2] == ["test", "validation"]
    transferred = "`end2end_transfer`, `frozen_transfer`, `tuned_transfer` also one pre-training"
    zeroshot = "for `frozen_zeroshot`, `tuned_zeroshot` one pre-training and no training"
    assert f"over users, one training; for {transferred}; {zeroshot}. A user's" in text
    assert f"over users, one training; for {transferred}. p is" in text  # of pairs, no zero shot
    assert "3 in test" in text  # held-out items out of reach
    assert rows(text, "random")[0][1] == f"{100 * 10 / 290:.2f}"
    for what in FIGURES:
        about = captions.FIGURES[what]
        assert f"![{about.alt}](figures/{what}-text-sasrec.png)\n\n{about.caption}" in text
        picture = Image.open(out / "figures" / f"{what}-text-sasrec.png")
        assert picture.width > 600 and picture.height > 300
    assert "oracle" not in text and "†" not in text and "arXiv" not in text


def test_the_report_says_what_it_is_of(world):
    text = world.report()
    sizes = "(1,500 users, 300 items)"
    assert text.splitlines()[2] == (
        f"old {sizes} -> near {sizes}, far {sizes}; content text: text by `some/bert`; user "
        "encoder sasrec; 1 seed."
    )
    named = {run: rows(text, f"`{run}`")[0] for run in kinds.RUNS if run != "frozen_paper"}
    assert named["id"][2] == named["frozen"][2] == "scratch"
    assert named["tuned_zeroshot"][2:] == ["the source's `end2end` model", "nothing"]
    assert not rows(text, "`frozen_paper`")  # is not in it


def test_an_encoder_of_this_machine_is_named_by_its_folder(world):
    entry = "{library: sentence-transformers, model: some/bert}"
    text = params.FILE.read_text().replace(entry, "/a/b")
    params.FILE.write_text(text)
    assert "text by `b`;" in world.report()


def test_differences_are_claimed_where_they_are(world):
    """end2end was made better than frozen on near, and no better on far."""
    text = world.report()
    near, far = (next(r for r in rows(text, target) if PAIR in r) for target in ("near", "far"))
    assert (near[6], far[6]) == ("higher", "not shown")
    assert near[4].startswith("+")
    assert "all 28 differences" in text  # 7 pairs, 2 targets, 2 metrics
    assert re.search(rf"\*\*{PAIR}\*\*: higher: near \+[\d.]+; no difference shown", text)


def test_no_conclusion_is_drawn_from_a_capped_run(world):
    world.evaluate("near", capped=["end2end"])
    text = world.report()
    row = next(r for r in rows(text, "near") if PAIR in r)
    assert row[6] == "capped" and row[4].endswith("†")
    assert rows(text, "end2end")[0][1].endswith("†")
    assert not rows(text, "frozen")[0][1].endswith("†")
    assert captions.CAPPED in text and "before its patience ran out" in captions.CAPPED
    assert "capped†, no conclusion: near" in text


def test_a_capped_source_marks_itself_and_the_runs_that_start_from_it(world):
    world.cost("pretrain/old-text-frozen-sasrec", seconds=100.0, capped=True)
    text = world.report()
    for run, is_marked in [("frozen", False), ("frozen_transfer", True), ("id", False)]:
        assert rows(text, run)[0][1].endswith("†") == is_marked
    assert rows(text, "frozen_zeroshot")[0][1].endswith("†")
    assert rows(text, "pretrain/old-text-frozen-sasrec†")
    assert rows(text, "pretrain/old-text-end2end-sasrec")
    assert captions.CAPPED in text


def test_every_table_with_a_capped_run_marks_it(world):
    """One capped run, and what starts from one capped source."""
    rename(world, "near", "QB")
    path = world.root / "cards" / "QB" / "prepare" / "card.json"
    files.write_json(path, files.read_json(path) | {"domain": "QB"})
    path = world.root / "evaluate" / "QB-text-sasrec" / "evaluation.json"
    found = files.read_json(path)
    found["capped"]["end2end"] = True
    files.write_json(path, found)
    world.cost("pretrain/old-text-frozen-sasrec", seconds=100.0, capped=True)
    text = world.report()
    order = "id frozen end2end frozen_transfer tuned_transfer end2end_transfer frozen_zeroshot"
    order = [*order.split(), "tuned_zeroshot", "popularity", "itemknn", "contentknn"]
    capped = {"end2end", "frozen_transfer", "frozen_zeroshot"}
    is_marked = [run in capped for run in order]
    of_target = rows(text, "QB")
    scores = [row for row in of_target if row[1] in ("test", "validation")]
    assert len(scores) == 2 * 6  # HR, NDCG and MRR at 10 and at 5
    for row in scores:
        assert [cell.endswith("†") for cell in row[2 : 2 + len(order)]] == is_marked
    sliced = [row for row in of_target if "in the source" in row[1]]
    for row in sliced:
        assert [cell.endswith("†") for cell in row[3:]] == is_marked
    (paper,) = [row for row in of_target if row[1] == "33.92"]
    assert [cell.endswith("†") for cell in paper[2::2]] == [False, True, False]
    for row in of_target:
        if MINUS in row[3]:
            assert ("†" in row[4]) == (not capped.isdisjoint(row[3].split(f" {MINUS} ")))


def test_captions_say_how_to_read_every_table(world):
    text = world.report()
    for word in cost_tables.SPENT:
        if word not in ("device", "users/s"):
            assert f"*{word}*" in captions.COST, word
    for word in cost_tables.WORK:
        assert f"*{word}*" in captions.WORK, word
    for caption in (
        captions.SCORES, captions.CUTOFFS, captions.COST, captions.OVERLAP, captions.SLICES,
        captions.DATA, captions.FOUNDATIONS, captions.RANKS, captions.CATALOGUE, captions.WORK,
        captions.OCCURRENCES, captions.HISTORIES,
    ):  # fmt: skip
        assert caption in text
    assert "*reading*" in text and "equal text" in captions.OVERLAP
    assert "need not be the same person" in " ".join(captions.OVERLAP.split())


def test_overlap_and_slices(world):
    text = world.report()
    assert any(
        row[1] == "150 of 300 (50.0 %)" and row[5].startswith("0 of") for row in rows(text, "near")
    )
    assert any(row[1] == "0 of 300 (0.0 %)" for row in rows(text, "far"))
    near = {row[1]: row for row in rows(text, "near") if "in the source" in row[1]}
    far = {row[1]: row for row in rows(text, "far") if "in the source" in row[1]}
    counts = [int(near[name][2].replace(",", "")) for name in near]
    assert sum(counts) == 1500 and min(counts) > 600
    assert far["in the source"][2:4] == ["0", NOTHING]


def test_covers_of_the_same_bytes_are_shared_too(world):
    """Of near's items, 150 have a text of the source; 60 others have a cover of it."""
    world.covers("old", [f"c{i}" for i in range(300)])
    world.covers("near", [None] * 150 + [f"c{i}" for i in range(60)] + ["own"] * 90)
    text = world.report()
    row = next(row for row in rows(text, "near") if "of 300" in row[1])
    assert row[1:4] == ["210 of 300 (70.0 %)", "150 of 300 (50.0 %)", "60 of 300 (20.0 %)"]


def test_covers_that_an_earlier_params_yaml_packed_are_not_looked_at(world):
    before, sections = world.report(), params.FILE.read_text()
    world.covers("old", [f"c{i}" for i in range(300)])
    world.covers("near", [f"c{i}" for i in range(299)])  # and of an item table that was shorter
    params.FILE.write_text(sections)
    assert world.report() == before


def test_the_share_without_cover_is_that_of_the_covers_card(world):
    world.covers("near", ["c"] * 225 + [None] * 75)
    (row,) = rows(world.report(), "items without a readable cover")
    assert row[1:] == [NOTHING, "25.00%", NOTHING]  # old and far have no covers


def test_a_sample_of_the_users_is_told_where_there_is_one(world):
    label = "users they are a sample of"
    assert not list(rows(world.report(), label))
    path = world.root / "cards/near/prepare/card.json"
    card = files.read_json(path)
    files.write_json(path, card | {"sampled": {"users": card["users"], "of": 6040}})
    (row,) = rows(world.report(), label)
    assert row[1:] == [NOTHING, "6,040", NOTHING]


def test_the_same_inputs_give_the_same_bytes(world):
    world.report()
    first = files.sha256(world.root / "report")
    world.report()
    assert files.sha256(world.root / "report") == first


def test_differences_that_cannot_be_stated_are_named(world):
    pairs = [["frozen", "id"], ["frozen", "frozen_paper"], ["end2end", "popularity"]]
    pairs += [["both/frozen", "text/frozen"]]
    params.FILE.write_text(params.FILE.read_text().replace(str(PAIRS), str(pairs)))
    text = world.report()
    assert "all 8 differences" in text  # 2 pairs, 2 targets, 2 metrics
    assert any(f"end2end {MINUS} popularity" in row for row in rows(text, "near"))
    lacking = "one of their runs, contents or user encoders is not listed, or needs a source: "
    lacking += f"frozen {MINUS} frozen_paper, both/frozen {MINUS} text/frozen."
    assert lacking in text.replace("\\_", "_")


def test_several_seeds(tmp_path, monkeypatch, make_world):
    world = make_world(tmp_path, monkeypatch, seeds=(1, 2, 3))
    text = world.report()
    assert "over users, the mean of 3 trainings; " in text
    assert "for `frozen_zeroshot`, `tuned_zeroshot` one pre-training and no training" in text
    found = json.loads((world.root / "report" / "metrics.json").read_text())["near-text-sasrec"]
    assert found["frozen"]["hr@5_sd"] > 0 and "hr@10_sd" not in found["frozen_zeroshot"]
    assert found["differences"]["end2end - frozen"]["hr@10"]["sd"] > 0
    assert re.fullmatch(r"[\d.]+ \[[\d.]+, [\d.]+\] ± [\d.]+", rows(text, "frozen")[0][1])
    assert "±" not in rows(text, "frozen_zeroshot")[0][1]  # nothing of it is random
    assert "exceeds the standard deviation between seeds" in text
    assert found["frozen"]["coverage@5_sd"] == pytest.approx(0.01)
    assert "coverage@5_sd" not in found["itemknn"]
    (row,) = [row for row in rows(text, "near") if row[1] == "Gini@5"]
    assert row[2] == "0.880 ± 0.010" and row[-1] == "0.940"


def test_without_a_source_there_are_the_scratch_runs_alone(world):
    params.FILE.write_text(params.FILE.read_text().replace("[old]", "[]"))
    text = world.report()
    assert "one training." in text and "also one pre-training" not in text
    assert not rows(text, "frozen_transfer") and rows(text, "end2end")
    assert "in the source" not in text
    assert "all 8 differences" in text  # 2 pairs, 2 targets, 2 metrics


def test_with_ids_alone_nothing_is_compared(world):
    text = params.FILE.read_text().replace("[old]", "[]")
    text = text.replace("frozen: [frozen]", "frozen: []", 2).replace(
        "end2end: [end2end]", "end2end: []"
    )
    params.FILE.write_text(text)
    said = world.report()
    assert "p is that of" not in said
    about = said.partition("## Differences\n\n")[2].splitlines()[0].replace("\\_", "_")
    assert about.startswith("Asked for, but one of their runs, contents or user encoders is not l")
    assert about.endswith(f"end2end_transfer {MINUS} end2end.")


def test_where_no_difference_is_asked_for_none_is_spoken_of(world):
    params.FILE.write_text(params.FILE.read_text().replace(str(PAIRS), "[]"))
    assert "Differences" not in world.report()


def test_without_any_content_there_is_nothing_to_report(world):
    params.FILE.write_text(params.FILE.read_text().replace("contents: [text]", "contents: []"))
    with pytest.raises(files.Stop, match=r"contents: \[\]: name at least one, or there is nothing"):
        world.report()
    assert not (world.root / "report").exists()


def test_the_oracle_is_a_row_where_it_is_known(world):
    path = world.root / "cards" / "near" / "prepare" / "card.json"
    files.write_json(path, {**files.read_json(path), "oracle": {"hr@10": 0.4321}})
    text = world.report()
    (row,) = rows(text, "oracle")
    assert row[1:5] == ["43.21", NOTHING, NOTHING, NOTHING]
    assert rows(text, "near")[0][-1] == "43.21" and rows(text, "far")[0][-1] == NOTHING


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
    (world.root / "evaluate" / "far-text-sasrec" / "evaluation.json").unlink()
    with pytest.raises(files.Stop, match=r"far-text-sasrec holds no evaluation.*dvc repro"):
        world.report()
    assert not (world.root / "report").exists()


def test_a_run_that_was_not_evaluated_is_named(world):
    path = world.root / "evaluate" / "far-text-sasrec" / "ranks.parquet"
    pl.read_parquet(path).filter(pl.col("run") != "end2end").write_parquet(path)
    with pytest.raises(files.Stop, match="does not hold the run 'end2end'"):
        world.report()


def test_groups_of_one_series_stand_together():
    wanted = evidence.Wanted([], ["a", "b"], ["text", "both"], ["sasrec"], ["id"], [1], [], [])
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
