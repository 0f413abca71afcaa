"""The share of items that may lack content."""

import pytest

from pipeline.data import missing
from pipeline.data.files import Stop


def test_the_limit_itself_is_allowed():
    missing.check("hm: no text", ["a"], 4, 0.25, "Look.")
    missing.check("hm: no text", [], 4, 0.0, "Look.")


def test_above_the_limit_the_items_are_listed():
    with pytest.raises(Stop) as stop:
        missing.check("hm: no text", ["a", "<b>"], 4, 0.25, "Look again.")
    assert str(stop.value) == (
        "hm: no text for 2 of 4 items (50.00%), more than max_missing = 25.00% allows: "
        "'a', '<b>'. Look again."
    )


def test_of_many_the_first_twenty_are_listed():
    ids = [f"v{i}" for i in range(1, 1501)]
    with pytest.raises(Stop, match=r"1,500 of 2,000 items .*'v19', 'v20' and 1,480 more\. Look"):
        missing.check("hm: no text", ids, 2000, 0.2, "Look again.")
