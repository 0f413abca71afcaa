import numpy as np
import pytest

from pipeline.retrieval import scoring
from tests.retrieval.test_search import domain


@pytest.mark.parametrize("numbers", [1, 40, 100, 1000])
def test_exact_scores_do_not_depend_on_their_chunks(monkeypatch, numbers):
    queries, items, _, _ = domain(2, users=9)
    found = np.random.default_rng(0).integers(0, len(items), (9, 7))
    monkeypatch.setattr(scoring, "CHUNK_NUMBERS", numbers)
    exact = scoring.exactly(queries, items, found)
    wide = items.astype(np.float64)[found]
    expected = (queries.astype(np.float64)[:, None] * wide).sum(axis=2)
    np.testing.assert_allclose(exact, expected, rtol=0, atol=1e-12)
