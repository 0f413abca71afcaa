import numpy as np
import pytest
import typer

from benchmarks import search


@pytest.mark.parametrize("text", ["200x80", "200x80x0", "axbxc", ""])
def test_a_shape_that_is_none_is_refused(text):
    with pytest.raises(typer.BadParameter, match=r"give users x items x width, as 2000x8000x64"):
        search.parse(text)


def test_a_shape_is_drawn_as_asked_with_copies():
    domain = search.draw(search.parse("20x50x8"))
    assert domain.queries.shape == (20, 8)
    assert domain.items.shape == (51, 8)
    np.testing.assert_array_equal(domain.items[-5:], domain.items[1:6])
    assert domain.candidates.sum() == 50 and not domain.candidates[0]
    lengths = np.diff(domain.held_out.masked.offsets)
    assert lengths.min() >= 2 and lengths.max() <= 21


def test_time_is_told_a_user_and_item():
    row = {"shape": search.Shape(10, 100, 8), "threads": 1, "seconds": {"FAISS": [1e-6, 3e-6]}}
    assert search.nanoseconds(row, "FAISS") == pytest.approx((2.0, 1.0, 3.0, 2))
