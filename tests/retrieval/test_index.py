"""Which GPUs a search uses; what it finds is tests/retrieval/test_search.py's."""

import os
from types import SimpleNamespace

import faiss
import numpy as np
import pytest

from pipeline.retrieval import index


@pytest.mark.parametrize(
    ("rank", "size", "gpus"),
    [(None, None, (0, [1, 2])), ("1", None, (0, [1, 2])), ("1", "1", (0, [1, 2])),
     ("0", "2", (0, [])), ("1", "2", (1, [])), ("4", "8", (1, []))],
    ids=["alone", "stray", "one of one", "first", "own", "shared"],
)  # fmt: skip
def test_a_process_of_several_searches_on_its_own_gpu(monkeypatch, rank, size, gpus):
    used = []
    monkeypatch.setattr(index.faiss, "get_num_gpus", lambda: 3)
    monkeypatch.setattr(index, "OnGpus", lambda vectors, *gpus: used.append(gpus))
    for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size}.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    index.index_of(np.ones((2, 3), np.float32))
    assert used == [gpus]


def test_without_gpus_the_cpu_searches_where_the_vectors_lie(monkeypatch):
    monkeypatch.setattr(index.faiss, "get_num_gpus", lambda: 0)
    vectors = np.eye(3, dtype=np.float32)
    found = index.index_of(vectors)
    assert found.vectors is vectors
    scores, places = found.search(np.array([[1, 3, 2]], np.float32), 2)
    assert (scores.tolist(), places.tolist()) == ([[3, 2]], [[1, 2]])


# What FAISS says where a GPU is full; from an issue of its repository.
FULL = (
    "Error in virtual void* faiss::gpu::StandardGpuResourcesImpl::allocMemory(const "
    "faiss::gpu::AllocRequest&) at faiss/gpu/StandardGpuResources.cpp:452: Error: 'err == "
    "cudaSuccess' failed: StandardGpuResources: alloc fail type FlatData dev 0 space Device "
    "stream 0 size 2764800000 bytes (cudaMalloc error out of memory [2])"
)


class FailingIndex:
    """An index on a GPU that fails at its n-th search, with an error of FAISS."""

    def __init__(self, message, good=0):
        self.message, self.good, self.asked = message, good, 0

    def search(self, queries, k):
        self.asked += 1
        if self.asked > self.good:
            raise RuntimeError(self.message)
        return np.full((len(queries), k), 7, np.float32), np.zeros((len(queries), k), np.int64)


def test_the_cpu_searches_where_a_gpu_has_no_room_for_the_vectors(monkeypatch, capsys):
    def no_room(vectors, gpus):
        raise RuntimeError(FULL)

    monkeypatch.setattr(index, "_divided", no_room)
    found = index.OnGpus(np.eye(3, dtype=np.float32), 0, [])
    for _ in range(2):
        scores, places = found.search(np.array([[1, 3, 2]], np.float32), 2)
        assert (scores.tolist(), places.tolist()) == ([[3, 2]], [[1, 2]])
    assert capsys.readouterr().err == (
        "search: a GPU has too little memory left; the CPU searches instead\n"
    )


def test_what_a_full_gpu_left_half_set_up_is_not_used_again(monkeypatch):
    """FAISS takes it for whole once it failed, and would read a store that is not there."""
    made = []

    class Resources:
        def __init__(self):
            made.append(self)

        def setTempMemory(self, _):  # noqa: N802  # FAISS's
            pass

    def to_gpus(resources, *_):
        if resources[0] is made[0]:
            raise RuntimeError(FULL)
        return faiss.IndexFlatIP(3)

    stubs = {
        "StandardGpuResources": Resources,
        "GpuMultipleClonerOptions": lambda: SimpleNamespace(shard=False),
        "index_cpu_to_gpu_multiple_py": to_gpus,
    }
    for name, value in stubs.items():
        monkeypatch.setattr(index.faiss, name, value, raising=False)
    index._resources.cache_clear()
    indexes = [index.OnGpus(np.eye(3, dtype=np.float32), 0, []).index for _ in range(2)]
    index._resources.cache_clear()
    assert indexes[0] is None and indexes[1] is not None


@pytest.mark.parametrize("room", [1, 3, 4])
def test_gpus_share_what_is_too_much_for_one(monkeypatch, capsys, room):
    """`room`: of so many GPUs together, three being there."""
    tried = []

    def divided(vectors, gpus):
        tried.append(gpus)
        if len(gpus) < room:
            raise RuntimeError(FULL)
        return FailingIndex("", good=1)

    monkeypatch.setattr(index, "_divided", divided)
    found = index.OnGpus(np.eye(3, dtype=np.float32), 0, [1, 2])
    assert tried == [[0], [0, 1, 2]][: 1 + (room > 1)]
    scores, _ = found.search(np.array([[1, 3, 2]], np.float32), 2)
    assert scores.tolist() == ([[3, 2]] if room == 4 else [[7, 7]])
    full = "search: a GPU has too little memory left; "
    told = [f"{full}others share the vectors\n", f"{full}the CPU searches instead\n"]
    assert capsys.readouterr().err == "".join(told[: (room > 1) + (room > 3)])


def test_a_gpu_is_set_up_once(monkeypatch):
    """FAISS's names for GPUs are stubs here; the index is one of the CPU."""
    made, given = [], []

    def to_gpus(resources, flat, options, gpus):
        given.append((resources, options.shard, gpus))
        return flat

    stub = SimpleNamespace(setTempMemory=made.append)
    stubs = {
        "StandardGpuResources": lambda: stub,
        "GpuMultipleClonerOptions": lambda: SimpleNamespace(shard=False),
        "index_cpu_to_gpu_multiple_py": to_gpus,
    }
    for name, value in stubs.items():
        monkeypatch.setattr(index.faiss, name, value, raising=False)
    index._resources.cache_clear()
    for vectors in (np.eye(3, dtype=np.float32), np.full((2, 3), 2, np.float32)):
        found = index.OnGpus(vectors, 1, [])
        assert found.search(np.ones((1, 3), np.float32), 1)[0].tolist() == [[vectors[0].sum()]]
    index._resources.cache_clear()
    assert given == [([stub], True, [1])] * 2
    assert made == [index.ROOM]


def test_the_cpu_goes_on_where_a_gpu_has_no_room_for_the_search(monkeypatch, capsys):
    device = FailingIndex(FULL, good=1)
    monkeypatch.setattr(index, "_divided", lambda vectors, gpus: device)
    found = index.OnGpus(np.eye(3, dtype=np.float32), 0, [])
    query = np.array([[1, 3, 2]], np.float32)
    assert found.search(query, 2)[0].tolist() == [[7, 7]]
    for _ in range(2):
        assert found.search(query, 2)[0].tolist() == [[3, 2]]
    assert device.asked == 2
    assert capsys.readouterr().err.count("the CPU searches instead") == 1


def test_other_errors_of_a_gpu_are_not_taken_for_a_full_one(monkeypatch):
    device = FailingIndex("CUDA error 700 an illegal memory access was encountered")
    monkeypatch.setattr(index, "_divided", lambda vectors, gpus: device)
    found = index.OnGpus(np.eye(3, dtype=np.float32), 0, [])
    with pytest.raises(RuntimeError, match="illegal memory access"):
        found.search(np.ones((1, 3), np.float32), 2)


@pytest.mark.parametrize(("device", "seen"), [("cpu", ""), ("auto", "0,1"), ("cuda", "0,1")])
def test_a_process_on_the_cpu_sees_no_gpu(monkeypatch, device, seen):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    index.set_up(device, 0)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen


def test_faiss_takes_the_threads_it_is_given():
    before = faiss.omp_get_max_threads()
    try:
        index.set_up("auto", 1)
        assert faiss.omp_get_max_threads() == 1
        index.set_up("auto", 2)
        assert faiss.omp_get_max_threads() == 2
        index.set_up("auto", 0)
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)
