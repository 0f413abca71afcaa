import pytest

from benchmarks import measure

MACHINE = {
    "date": "2026-01-02",
    "processor": "Some CPU",
    "cores": 2,
    "memory": 24e9,
    "python": "3.11.0",
    "versions": {"torch": "2.14.1", "numpy": "2.4.6"},
    "threads": 2,
    "gpu": None,
}


def test_ratios_are_taken_repeat_by_repeat():
    # 8 / 2, 9 / 3, 5 / 1
    assert measure.ratio([8.0, 9.0, 5.0], [2.0, 3.0, 1.0]) == (4.0, 3.0, 5.0, 3)
    assert measure.spread([1.0, 4.0, 2.0]).text(1) == "2.0 (1.0-4.0)"


@pytest.mark.parametrize(
    ("seconds", "asked", "expected"),
    [
        ({}, 0, 5),
        ({"a": [], "b": []}, 0, 5),
        ({"a": [60.0], "b": [1.0]}, 0, 5),
        ({"a": [60.1], "b": [1.0]}, 0, 3),
        ({"a": [1.0, 99.0], "b": [1.0]}, 0, 5),  # the first repeat decides
        ({"a": [99.0], "b": [1.0]}, 7, 7),
    ],
)
def test_repeats_are_five_or_three_where_one_takes_over_a_minute(seconds, asked, expected):
    assert measure.due(seconds, asked) == expected


@pytest.mark.parametrize(("asked", "turns"), [(3, "ab ab ba ab"), (0, "ab ab ba ab ba ab")])
def test_candidates_take_turns_in_an_order_that_turns_round(asked, turns):
    called = []
    candidates = {name: lambda name=name: called.append(name) for name in "ab"}
    seconds = measure.side_by_side(candidates, asked)
    assert "".join(called) == turns.replace(" ", ""), "the first turn warms up"
    assert {name: len(own) for name, own in seconds.items()} == dict.fromkeys("ab", len(turns) // 3)


def test_a_machine_is_described_on_one_line():
    assert measure.described(MACHINE) == (
        "2026-01-02, Some CPU, 2 cores, 2 threads of torch, 24 GB, no GPU; "
        "Python 3.11.0, torch 2.14.1, numpy 2.4.6."
    )
    described = measure.described(measure.machine())
    assert f"{measure.memory() / 1e9:.0f} GB" in described and "dvc 3" in described


def test_each_machine_and_day_has_a_mark_of_its_own():
    later = MACHINE | {"date": "2026-03-04"}
    marked = measure.marks([MACHINE, later, dict(MACHINE)])
    assert [*marked.values()] == ["[1]", "[2]"]
    first, second = measure.legend(marked).splitlines()
    assert first.startswith("- [1] 2026-01-02, ") and second.startswith("- [2] 2026-03-04, ")


def test_a_table_takes_the_place_of_the_former_one(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "FOLDER", tmp_path)
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- x -->\nold\n<!-- /x -->\nafter\n")
    measure.write("x", {"a": 1}, "new\n")
    assert readme.read_text() == "before\n<!-- x -->\n\nnew\n\n<!-- /x -->\nafter\n"
    measure.write_run("x", {"a": 1}, "newest")
    assert "newest\n\n2" in readme.read_text() and "\nnew\n" not in readme.read_text()


def test_a_table_without_a_place_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "FOLDER", tmp_path)
    (tmp_path / "README.md").write_text("<!-- x -->\n")
    with pytest.raises(ValueError, match=r"README.md has no place for 'x': it needs <!-- x -->"):
        measure.write("x", {}, "")
