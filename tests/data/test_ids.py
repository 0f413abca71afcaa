"""Ids and their codes: nothing is lost, whatever ids look like."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import ids

# Numbers written in the one plain way take another path than all else.
NUMBERS = st.integers(0, 40).map(str)
PREFIXED = st.builds(lambda prefix, n: f"{prefix}{n}", st.sampled_from(["u", "v", "ü "]), NUMBERS)
ODD = st.sampled_from(
    ["7", "07", "+7", "-7", " 7", "7 ", "٣", "u", "u7", "u07", "4294967296", "1.0"]
)
IDS = st.one_of(
    st.lists(NUMBERS), st.lists(PREFIXED), st.lists(st.one_of(NUMBERS, ODD)), st.lists(st.text())
)


def read(encoded):
    names = ids.names(encoded)
    return [names[code] for code in ids.codes(encoded).tolist()]


@given(IDS)
def test_codes_name_every_row(texts):
    encoded = ids.encode(pl.Series("user", texts, pl.String))
    assert read(encoded) == texts == encoded.cast(pl.String).to_list()
    assert encoded.name == "user"
    assert sorted(ids.names(encoded)) == sorted(set(texts)), "each id once"


@pytest.mark.parametrize("texts", [["7", "07"], ["7", "+7"], ["u7", "u07"], ["u7", "v7"]])
def test_ids_that_are_written_otherwise_are_others(texts):
    assert read(ids.encode(pl.Series(texts * 9))) == texts * 9


def test_a_number_far_above_the_rest_is_an_id_as_any_other():
    texts = ["3", "4294967295", "1", "3"]
    assert read(ids.encode(pl.Series(texts))) == texts


def test_two_columns_have_codes_of_their_own():
    first = ids.encode(pl.Series(["b", "a"]))
    second = ids.encode(pl.Series(["c"]))  # while the first is there
    assert ids.names(second).to_list() == ["c"]
    assert ids.names(first).to_list() == ["b", "a"]


@pytest.mark.parametrize("lost", ["67.0", "067", " 67", "00067.00"])
def test_a_number_in_another_spelling_is_pointed_out(lost):
    said = ids.spelling(pl.Series(["9", lost]), pl.Series(["6", "67", "670"]), "of a cover")
    assert said == f" {lost!r} is perhaps '67' of a cover; write ids alike everywhere."


@pytest.mark.parametrize("lost", ["67", "670", "6.7", "0", ""])
def test_what_is_there_or_is_another_number_is_not(lost):
    assert ids.spelling(pl.Series([lost]), pl.Series(["67", "7"]), "of a cover") == ""
