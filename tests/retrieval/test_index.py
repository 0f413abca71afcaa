"""Which GPUs a search uses; what it finds is tests/retrieval/test_search.py's."""

import faiss
import numpy as np
import pytest

from pipeline.retrieval import index


@pytest.mark.parametrize(
    ("rank", "gpus"), [(None, [0, 1, 2]), ("1", [1]), ("4", [1])], ids=["alone", "own", "shared"]
)
def test_a_process_of_several_searches_on_its_own_gpu(monkeypatch, rank, gpus):
    used = []
    monkeypatch.setattr(index.faiss, "get_num_gpus", lambda: 3)
    monkeypatch.setattr(index, "OnGpus", lambda vectors, gpus: used.append(gpus))
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    index.index_of(np.ones((2, 3), np.float32))
    assert used == [gpus]


def test_without_gpus_the_cpu_searches_where_the_vectors_lie(monkeypatch):
    monkeypatch.setattr(index.faiss, "get_num_gpus", lambda: 0)
    vectors = np.eye(3, dtype=np.float32)
    found = index.index_of(vectors)
    assert found.vectors is vectors
    scores, places = found.search(np.array([[1, 3, 2]], np.float32), 2)
    assert (scores.tolist(), places.tolist()) == ([[3, 2]], [[1, 2]])


def test_faiss_takes_the_threads_it_is_given():
    before = faiss.omp_get_max_threads()
    try:
        index.set_threads(1)
        assert faiss.omp_get_max_threads() == 1
        index.set_threads(2)
        assert faiss.omp_get_max_threads() == 2
        index.set_threads(0)
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)
