import numpy as np
import pytest

from pipeline.retrieval import scoring
from tests.retrieval.test_search import domain


@pytest.mark.parametrize("numbers", [1, 40, 100, 1000])
def test_exact_scores_do_not_depend_on_their_chunks(monkeypatch, numbers):
    queries, items, _, _ = domain(2, users=9)
    found = np.random.default_rng(0).integers(0, len(items), (9, 7))
    monkeypatch.setattr(scoring, "CHUNK_NUMBERS", numbers)
    expected = queries.astype(np.float64) @ items.astype(np.float64).T
    np.testing.assert_allclose(scoring.of_all(queries, items), expected, rtol=0, atol=1e-12)
    exact = scoring.exactly(queries, items, found)
    expected = np.take_along_axis(expected, found, axis=1)
    np.testing.assert_allclose(exact, expected, rtol=0, atol=1e-12)
