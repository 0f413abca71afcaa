import numpy as np

from pipeline.models.rows import Masking
from pipeline.training import slots


def test_the_shares_of_what_is_hidden_are_those_asked_for():
    lengths = np.full(4000, 10)
    for share, last in [(0.4, 0.0), (0.2, 0.3)]:
        hidden = slots.hide(
            lengths, Masking(share=share, last=last), np.random.default_rng(0)
        ).reshape(-1, 10)
        is_alone = (hidden.sum(1) == 1) & hidden[:, -1]
        expected = last + (1 - last) * share * (1 - share) ** 9
        assert abs(is_alone.mean() - expected) < 0.05
        assert abs(hidden[:, 0].mean() - (1 - last) * share) < 0.05
