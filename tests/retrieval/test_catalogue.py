import numpy as np
import pytest

from pipeline.retrieval import catalogue

CANDIDATES = np.array([False, True, True, False, True, True])  # 1, 2, 4 and 5; 3 is none
LISTS = np.array([[1, 2, 4], [1, 4, 2], [2, 1, 0]])  # the third user has no third item


@pytest.mark.parametrize(
    ("k", "counts", "coverage", "gini"),
    [
        # ascending 0 0 1 2 of 3: (-3 * 0 - 1 * 0 + 1 * 1 + 3 * 2) / 3 / (4 - 1)
        (1, [2, 1, 0, 0], 2 / 4, (1 * 1 + 3 * 2) / 3 / 3),
        # ascending 0 1 2 3 of 6
        (2, [3, 2, 1, 0], 3 / 4, (-1 * 1 + 1 * 2 + 3 * 3) / 6 / 3),
        # ascending 0 2 3 3 of 8; PAD is not counted
        (3, [3, 3, 2, 0], 3 / 4, (-1 * 2 + 1 * 3 + 3 * 3) / 8 / 3),
    ],
)
def test_hand_worked_values(k, counts, coverage, gini):
    found = catalogue.exposures(LISTS, CANDIDATES, k)
    assert found.tolist() == counts
    assert catalogue.coverage(found) == coverage
    assert catalogue.gini(found) == pytest.approx(gini)
    assert catalogue.summary(LISTS, CANDIDATES, [k]) == pytest.approx(
        {f"coverage@{k}": coverage, f"gini@{k}": gini}
    )


def test_gini_is_the_mean_difference_over_twice_the_mean():
    """Its other definition, with n - 1 for n: sum_ij |x_i - x_j| / (2 n (n - 1) mean)."""
    counts = np.random.default_rng(0).integers(0, 50, 40)
    differences = np.abs(counts[:, None] - counts).sum()
    assert catalogue.gini(counts) == pytest.approx(differences / (2 * 40 * 39 * counts.mean()))


@pytest.mark.parametrize(
    ("counts", "gini"),
    [([7, 7, 7], 0.0), ([0, 9, 0], 1.0), ([4], 0.0), ([0, 0], 0.0), ([5, 5, 0, 0], (4 - 2) / 3)],
)
def test_gini_at_its_ends(counts, gini):
    """Equal, one alone, a catalogue of one, no lists, and lists of K = 2 that are all the same."""
    assert catalogue.gini(np.array(counts)) == pytest.approx(gini)


def test_users_are_counted_whatever_the_chunks(monkeypatch):
    lists = np.random.default_rng(1).integers(1, 6, (100, 3))
    expected = catalogue.exposures(lists, CANDIDATES, 2)
    monkeypatch.setattr(catalogue, "CHUNK_USERS", 7)
    np.testing.assert_array_equal(catalogue.exposures(lists, CANDIDATES, 2), expected)
    assert expected.sum() == np.isin(lists[:, :2], [1, 2, 4, 5]).sum()
