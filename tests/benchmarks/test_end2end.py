import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import end2end, measure
from benchmarks import end2end_data as data
from benchmarks import end2end_sides as sides
from benchmarks import end2end_steps as steps
from pipeline.data import sequences, split
from tests import small_domains
from tests.benchmarks.test_measure import MACHINE

HM = data.Place("hm", Path("hm"), users=100, items=200, catalogue="window")

TRAINED = {"text": {"layers": 2, "blocks": 6, "weights": 3_550_000, "whole": 22_700_000}}
FED = small_domains.feed([[1, 2, 3]] * 120, 4)  # 30 steps of 4 users


def setup(**changes):
    made = sides.Setup(Path("work"), "small", "cpu", 64, 2, 8, 1)
    return made._replace(**changes)


def row(theirs, in_batch, bce):
    """What `steps.compare` gives, over two repeats."""
    seconds = {"theirs": theirs, "in_batch": in_batch, "bce": bce}
    made = {"slots": 2688.0, "items_share": 0.25, "distinct": 317.0, "tokens_share": 1.0}
    return {
        "trained": TRAINED,
        "seconds_a_user": seconds,
        "ratio": {loss: steps.ratio(theirs, seconds[loss]) for loss in steps.LOSSES},
        "encoded": {loss: made for loss in steps.LOSSES},
        "prefix": {"seconds": 10.0, "bytes": 2e6, "seconds_a_user": 0.01},
    }


def users_of_theirs():
    """What `linearity.compare` gives, of one repeat."""
    seconds = {"8": [1.0], "64": [2.0]}
    ratios = {n: steps.ratio(found, seconds["8"]) for n, found in seconds.items()}
    named = {"trained": TRAINED, "bytes_a_user": 1e6}
    return {**named, "seconds_a_user": seconds, "to_few": ratios}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where results go: a README with a place for the table."""
    monkeypatch.setattr(measure, "FOLDER", tmp_path)
    (tmp_path / "README.md").write_text("<!-- end2end -->\n<!-- /end2end -->\n")
    return tmp_path


def case(content="text", layers=2, tokens="30"):
    return sides.Case(HM, content, layers, tokens)


def results(folder):
    return json.loads((folder / "results" / "end2end.json").read_text())


def test_what_is_measured_apart_comes_together_and_again_takes_its_place(folder):
    first, other = row([3.0, 3.0], [0.1, 0.1], [0.2, 0.2]), row([4.0, 4.0], [1.0, 1.0], [2.0, 2.0])
    end2end.keep("steps", setup(), case(), first)
    end2end.keep("linearity", setup(), case(), users_of_theirs())
    end2end.keep("steps", setup(), case(layers="all"), first)
    end2end.keep("steps", setup(users=256), case(), first)
    end2end.keep("steps", setup(), case(), other)
    found = results(folder)
    two, whole, larger = (f"cpu small hm text 30 {end}" for end in ("2 64", "all 64", "2 256"))
    assert [*found["steps"]] == [two, whole, larger]
    medians = [one["ratio"]["in_batch"]["median"] for one in found["steps"].values()]
    assert medians == [4.0, 30.0, 30.0]
    assert [*found["linearity"]] == [two]


def test_goals_stand_beside_results_reached_or_missed(folder):
    # in_batch: (3 / 0.1, 6 / 0.2) = 30 times, 25 are meant; bce: 15 and 10 times, 12.5 of 12.
    end2end.keep("steps", setup(), case(), row([3.0, 6.0], [0.1, 0.2], [0.2, 0.6]))
    end2end.keep("steps", setup(), case(layers="all"), row([3.0, 6.0], [0.5, 1.0], [1.0, 2.0]))
    end2end.keep("steps", setup(users=256), case(), row([3.0, 6.0], [0.1, 0.2], [0.2, 0.4]))
    lines = (folder / "README.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    found = {(*c[4:7],): (*c[9:11],) for c in cells if len(c) > 6 and c[6] in steps.LOSSES}
    assert "| all-MiniLM-L6-v2 | small | 2 | 2 of 6 | 3.5 of 22.7 M |" in lines
    assert found == {
        ("2", "64", "in_batch"): ("30.0 (30.0-30.0)", "25: reached"),
        ("2", "64", "bce"): ("12.5 (10.0-15.0)", "12: reached"),
        ("2", "256", "in_batch"): ("30.0 (30.0-30.0)", "-"),  # goals are for 64 users a step
        ("2", "256", "bce"): ("15.0 (15.0-15.0)", "-"),
        ("all", "64", "in_batch"): ("6.0 (6.0-6.0)", "10: missed"),
        ("all", "64", "bce"): ("3.0 (3.0-3.0)", "5: missed"),
    }


def test_each_row_says_where_and_when_it_was_measured(folder, monkeypatch):
    for layers, day in (("all", "2026-01-02"), (2, "2026-03-04")):
        monkeypatch.setattr(measure, "machine", lambda day=day: MACHINE | {"date": day})
        end2end.keep("steps", setup(), case(layers=layers), row([3.0], [0.1], [0.2]))
        end2end.keep("linearity", setup(), case(layers=layers), users_of_theirs())
    lines = (folder / "README.md").read_text().splitlines()
    # Of both losses, of what is encoded, and of two numbers of users; those with 2 come first.
    rows = [line for line in lines if line.startswith("| hm | ")]
    marks = [(line.split(" | ")[4], line.split(" | ")[-1]) for line in rows]
    two, whole = ("2", "[1] |"), ("all", "[2] |")
    assert marks == [two, two, whole, whole, two, whole, two, two, whole, whole]
    legend = [line for line in lines if line.startswith("- [")]
    assert [line[: len("- [1] 2026-03-04")] for line in legend] == [
        "- [1] 2026-03-04",
        "- [2] 2026-01-02",
    ]


def test_an_optimizers_step_is_for_as_many_users_as_ours_has():
    # 8 s for 4 users, and 32 s a step of 16 users: 2 + 2; then 1 + 0.5
    assert steps.together([8.0, 4.0], 4, [32.0, 8.0], 16) == [4.0, 1.5]


def test_the_prefix_of_a_part_is_scaled_to_the_catalogue_and_ten_epochs():
    kept = {"seconds": 30.0, "bytes": 1e6, "items": 50.0}
    # 200 items of which 50 were kept: 4 times as much; 100 users in 10 epochs.
    assert steps.spread_prefix(HM, kept) == {
        "seconds": 120.0,
        "bytes": 4e6,
        "seconds_a_user": 120.0 / (100 * 10),
    }
    nothing = {"seconds": 0.0, "bytes": 0, "items": 0}
    assert steps.spread_prefix(HM, nothing)["seconds_a_user"] == 0


def test_lengths_of_texts_matter_where_they_are_cut():
    def tokens(place, content):
        return [one.texts for one in end2end.cases(place, [content], ["2"], ["30", "whole"])]

    assert tokens(HM, "text") == ["30", "whole"]
    assert tokens(HM, "image") == tokens(HM, "both") == ["30"]
    assert tokens(HM._replace(name="source"), "text") == ["30"]


def test_every_turn_is_on_the_same_steps_for_all():
    seen = {"ours": [], "theirs": []}
    calls = {name: seen[name].append for name in seen}
    steps.in_turn(setup(steps=10), FED, calls, repeats=3)
    # One turn to warm up, then three; steps 0 to 9 and 10 to 19 of 24, of which there are 30.
    assert seen == {"ours": [0, 10, 0, 10], "theirs": [0, 10, 0, 10]}


def test_data_that_are_not_there_are_left_out_and_it_is_said(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(data, "UNPACKED", tmp_path / "nowhere")
    monkeypatch.setattr(data, "UNPACK", tmp_path / "no.sh")
    assert data.make("hm", tmp_path / "hm", "small", 64, tmp_path) is None
    assert "hm is left out: " in capsys.readouterr().err


def test_the_source_has_the_lengths_of_bili_2m():
    histories = data.histories(np.random.default_rng(0))
    protocol = split.Protocol.model_validate(data.PRESET["protocol"])
    parts = split.split(histories, data.SOURCE_ITEMS, protocol)
    lengths = sequences.lengths
    assert lengths(histories).mean() == pytest.approx(12.25, abs=0.1)
    assert lengths(parts.train).mean() / 21 == pytest.approx(0.46, abs=0.01)  # slots that are real
    assert lengths(parts.train).max() == 21
