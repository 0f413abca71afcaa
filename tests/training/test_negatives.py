"""How negatives are drawn from a catalogue; what a batch makes of them stands in test_batches."""

import numpy as np
import pytest

from pipeline.data import sequences
from pipeline.training import negatives
from tests.small_domains import NEGATIVES, feed


def test_who_has_met_nearly_all_there_is_gets_the_rest_at_once():
    # 300,000 interactions with items of the window against one with item 4: a draw in 300,000.
    counts = np.array([0, 10**5, 10**5, 10**5, 1, 0])
    settings = NEGATIVES.model_copy(update={"popularity": 1.0, "number": 3})
    sampler = negatives.Sampler(np.arange(1, 6), counts, settings)
    windows = sequences.from_rows([[1, 2, 3], [1, 2]])
    rng = np.random.default_rng(0)
    drawn = sampler.of_slots(windows, np.array([0, 0, 1]), rng)
    assert drawn[:2].tolist() == [[4] * 3] * 2
    assert set(drawn[2]) <= {3, 4}


def test_an_item_nobody_met_is_not_drawn_however_the_shares_add_up():
    counts = np.array([0, *[1] * 9_999, 0])  # their cumulative sum ends below 1
    settings = NEGATIVES.model_copy(update={"popularity": 0.3})
    sampler = negatives.Sampler(np.arange(1, 10_001), counts, settings)

    class Always:
        def __init__(self, number):
            self.number = number

        def random(self, size):
            return np.full(size, self.number)

    assert sampler.draw(Always(np.nextafter(1.0, 0.0)), 1).tolist() == [9_999]
    first_unmet = negatives.Sampler(np.arange(1, 4), np.array([0, 0, 5, 5]), settings)
    assert first_unmet.draw(Always(0.0), 1).tolist() == [2]


def test_negatives_by_popularity_are_drawn_by_their_share():
    fed = feed([[1, 1, 1, 1, 2]] * 50, n_items=5, loss="sampled_softmax", number=64, popularity=0.5)
    drawn = np.concatenate([fed.negatives(None, None, [0, n, 1]) for n in range(200)])
    # 200 and 50 interactions: sqrt(4) to 1, and the others, which nobody met, never.
    share = np.bincount(drawn, minlength=6) / len(drawn)
    assert share[1] == pytest.approx(2 / 3, abs=0.02)
    assert share[2] == pytest.approx(1 / 3, abs=0.02)
    assert share[3:].sum() == 0
    expected = np.exp(fed.sampler.log_expected(np.array([1, 2, 1])))
    assert expected.tolist() == pytest.approx([2, 1, 2])  # of 3 draws
