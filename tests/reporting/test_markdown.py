import pytest

from pipeline.reporting import markdown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min 00 s"),
        (60, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (5461, "1 h 31 min"),
    ],
)
def test_seconds(value, shown):
    assert markdown.seconds(value) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.0123, "+1.23"),
        (-0.0123, "\N{MINUS SIGN}1.23"),
        (-1e-6, "0.00"),
        (1e-6, "0.00"),
        (0.1, "+10.00"),
    ],
)
def test_signed(share, shown):
    assert markdown.signed(share) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (22_000_000, "0.022 G"),
        (1_234_000_000, "1.23 G"),
        (99_940_000_000, "99.9 G"),
        (99_960_000_000, "100 G"),
        (999_600_000_000, "1,000 G"),
        (1_234_500_000_000, "1,234 G"),
        (23_500_000_000_000, "23,500 G"),
    ],
)
def test_flops(number, shown):
    assert markdown.flops(number) == shown


@pytest.mark.parametrize(("p", "shown"), [(1.0, "1"), (0.01234, "0.0123"), (0.0, "&lt; 0.0001")])
def test_probability(p, shown):
    assert markdown.probability(p) == shown


def test_table():
    assert markdown.table(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"
