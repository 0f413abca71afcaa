"""The data card, counted by hand, and safe to show."""

from pathlib import Path

import polars as pl
import pytest

from pipeline.data import card, prepare, raw, sequences, split, tables
from tests.data.raw_files import PROTOCOL

NAMES = [f"v{i}" for i in range(1, 11)]


def describe(drawn_from=None, duplicates=2, dropped=0, **protocol):
    items = pl.DataFrame(
        {"id": NAMES, "text": [None, *"bcdefghij"], "cover": [None] * 10},
        schema=tables.ITEMS,
    )
    # train parts 1 2 3 | 1 2 3 4; u1's test item 2 is in its own window, u2's 8 is in no train part
    histories = sequences.from_rows([[1, 2, 3, 4, 2], [1, 2, 3, 4, 7, 8]])
    users = pl.DataFrame({"id": ["a", "b"], "valid": [4, 7], "test": [2, 8]}, schema=tables.USERS)
    domain = tables.Prepared(items, users, histories)
    read = raw.Raw(
        pl.DataFrame(), items, True, Path("d/<i>_pair.csv"), "item,user,timestamp", ["a|b *c*"]
    )
    counts = prepare.Counts(15, 1, duplicates, dropped, 1, 3, (5, 1234567), drawn_from)
    return card.card("films", read, domain, counts, PROTOCOL.model_copy(update=protocol))


@pytest.fixture
def described():
    return describe()


def test_hand_worked_numbers(described):
    assert described == {
        "domain": "films",
        "source": "<i>_pair.csv",
        "columns": "item,user,timestamp",
        "users": 2,
        "items": 10,
        "candidates": 6,  # 1 2 3 4 7 8
        "interactions": 11,
        "share_learned": 7 / 11,
        "sparsity": 1 - 11 / (2 * 10),
        "lengths": {
            "min": 5.0, "quarter": 5.25, "median": 5.5, "three_quarters": 5.75, "max": 6.0,
            "mean": 5.5,
        },
        "time": {"first": 5, "last": 1234567},
        "share_without": {"text": 1 / 10, "history": 1 - 4 / 10},
        "held_out": {"valid": {"repeated": 0, "cold": 1}, "test": {"repeated": 1, "cold": 1}},
        "read": 15,
        "duplicates": 2,
        "dropped": {
            "unknown_item": 1, "short_users": 1, "short_interactions": 3, "duplicates": 0,
        },
        "warnings": ["a|b *c*", REPEATED.format("prepare.duplicates: drop leaves out 2 rows that "
                                                "stand there twice; ")],
    }  # fmt: skip


REPEATED = (
    "1 of 2 test items are among what is masked for their user, and count as a miss; {}where users "
    "come back to the same items, protocol.mask: none lets them be found"
)


@pytest.mark.parametrize(("train", "learned"), [("window", 4), ("all", 7)])
def test_what_is_learned_from_counts_once_where_pieces_meet(train, learned):
    # windows of 4: 2 3 and 3 4; all: 2 3, 1 2 and 3 4, 2 3, 1 2
    found = describe(window=4, train=train, catalogue="all")
    assert found["share_learned"] == learned / 11


def test_it_warns_where_many_test_items_are_masked():
    assert describe(duplicates=2, dropped=2)["warnings"] == ["a|b *c*", REPEATED.format("")]
    assert describe(mask="none")["warnings"] == ["a|b *c*"]


def test_a_sample_is_said_to_be_one(described):
    of_nine = describe(drawn_from=9)
    assert of_nine == {**described, "sampled": {"users": 2, "of": 9}}
    assert "| sampled users | 2 |\n| sampled of | 9 |" in card.markdown(of_nine)


def test_markdown_shows_every_number_and_no_markup(described):
    text = card.markdown(described)
    assert text.startswith("# Data card of films\n")
    assert "| share without history | 60.00% |" in text
    assert "| time last | 1234567 |" in text
    assert "| held out test repeated | 1 |" in text
    assert r"| source | &lt;i&gt;\_pair.csv |" in text
    warned = f"- a\\|b \\*c\\*\n- {card.escape(described['warnings'][-1])}\n"
    assert text.endswith(f"\nWarnings\n\n{warned}")


def test_names_in_a_card_are_escaped_too(described):
    text = card.markdown({**described, "oracle": {"<b>|x": 1.0}})
    assert "| oracle &lt;b&gt;\\|x | 1.0 |" in text


def test_repeated_depends_on_what_is_masked():
    histories = sequences.from_rows([[5, 1, 2, 3, 5]])
    for mask, found in (("window", False), ("all", True), ("none", False)):
        changes = {"min_items": 3, "window": 4, "mask": mask}
        parts = split.split(histories, 5, PROTOCOL.model_copy(update=changes))
        assert card.repeated(parts.test).tolist() == [found]


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        (
            "<script>alert('x')</script>",
            "&lt;script&gt;alert\\('x'\\)&lt;/script&gt;",
        ),
        ("a|b\nc", r"a\|b c"),
        ("[x](http://y)", r"\[x\]\(http://y\)"),
        ("`rm`", r"\`rm\`"),
    ],
)
def test_text_from_the_data_is_escaped(text, safe):
    assert card.escape(text) == safe
