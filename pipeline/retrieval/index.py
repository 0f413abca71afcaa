"""Exact inner product search by FAISS: on a GPU where there is one, else on the CPU."""

import os
import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any, TypeVar

import faiss
import numpy as np

from pipeline.data import files, launch

ROOM = 2**29  # bytes of a GPU that FAISS keeps to compute in; for more at once it asks anew
OTHERS, CPU = "others share the vectors", "the CPU searches instead"

T = TypeVar("T")


class Flat:
    """Search on the CPU over [n, D] float32 vectors where they lie, without a copy."""

    limit = sys.maxsize  # the largest k

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the k best: [B, k] float32 scores, best first, and [B, k] int64 positions."""
        scores, found = faiss.knn(queries, self.vectors, k, faiss.METRIC_INNER_PRODUCT)
        return scores, found


class OnGpus:
    """Search on a GPU over [n, D] float32 vectors; on several, each with its part, if one is full.

    Where all are full, or later on too little memory is left, the CPU searches.
    """

    limit = 2048  # FAISS's, on a GPU

    def __init__(self, vectors: np.ndarray, own: int, others: list[int]) -> None:
        self.vectors = vectors
        self.index = _if_room(partial(_divided, vectors, [own]), OTHERS if others else CPU)
        if self.index is None and others:
            self.index = _if_room(partial(_divided, vectors, [own, *others]), CPU)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the k best, as `Flat` does; k is at most `limit`."""
        if self.index is not None:
            found = _if_room(partial(self.index.search, queries, k), CPU)
            if found is not None:
                scores, places = found
                return scores, places
            self.index = None
        return Flat(self.vectors).search(queries, k)


def index_of(vectors: np.ndarray) -> Flat | OnGpus:
    """Index [n, D] float32 vectors: of several processes each on its own GPU, alone on the first.

    That is the one it trains on; what others do on theirs is disturbed only if it has no room.
    """
    number, own = faiss.get_num_gpus(), launch.local_rank()
    if not number:
        return Flat(vectors)
    if own is not None:
        return OnGpus(vectors, own % number, [])
    return OnGpus(vectors, 0, list(range(1, number)))


def set_up(device: str, threads: int) -> None:
    """Say what FAISS may take in this process, before it searches first.

    Args:
        device: where it is `cpu`, no GPU: CUDA shows none to this process from here on.
        threads: of the CPU; 0 leaves FAISS's own choice (the cores, or OMP_NUM_THREADS).
    """
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if threads > 0:
        faiss.omp_set_num_threads(threads)


def _divided(vectors: np.ndarray, gpus: list[int]) -> Any:  # noqa: ANN401  # FAISS has no types
    """Copy the vectors to GPUs, to each its part."""
    options = faiss.GpuMultipleClonerOptions()
    options.shard = True
    flat = faiss.IndexFlatIP(vectors.shape[1])
    resources = [_resources(gpu) for gpu in gpus]
    index = faiss.index_cpu_to_gpu_multiple_py(resources, flat, options, gpus)
    index.add(vectors)
    return index


@cache
def _resources(gpu: int) -> Any:  # noqa: ANN401
    """Give what FAISS holds on a GPU, which takes longer to set up than many a search."""
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(ROOM)
    return resources


def _if_room(work: Callable[[], T], instead: str) -> T | None:
    """Let GPUs do something; None, and a line that says what else, if their memory is too small.

    Raises:
        RuntimeError: they failed in another way.
    """
    try:
        return work()
    except RuntimeError as error:
        if not files.is_short_of_memory(error):
            raise
        _resources.cache_clear()  # one that was being set up is half made, and would crash
        sys.stderr.write(f"search: a GPU has too little memory left; {instead}\n")
        return None
