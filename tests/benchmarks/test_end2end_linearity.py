import pytest

from benchmarks import end2end_linearity as linearity


@pytest.mark.parametrize(
    ("few", "wanted", "fit", "expected"),
    [
        (8, 64, 100, [4, 8, 64]),
        (8, 64, 48, [4, 8, 48]),  # 64 would not fit
        (8, 64, 5, [4, 8]),  # what all other parts time is timed in any case
        (1, 1, 100, [1]),
    ],
)
def test_users_are_as_many_as_ours_or_as_fit(few, wanted, fit, expected):
    assert linearity.numbers(few, wanted, fit) == expected
