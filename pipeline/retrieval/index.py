"""Exact inner product search by FAISS: on the GPUs where there are any, else on the CPU."""

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import faiss
import numpy as np

from pipeline.data import files, launch

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
    """Search on GPUs, each with its part of the vectors [n, D] float32.

    Where one of them has too little memory left, the CPU searches.
    """

    limit = 2048  # FAISS's, on a GPU

    def __init__(self, vectors: np.ndarray, gpus: list[int]) -> None:
        self.vectors = vectors
        self.index = _if_room(partial(_divided, vectors, gpus))

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the k best, as `Flat` does; k is at most `limit`."""
        if self.index is not None:
            found = _if_room(partial(self.index.search, queries, k))
            if found is not None:
                scores, places = found
                return scores, places
            self.index = None
        return Flat(self.vectors).search(queries, k)


def index_of(vectors: np.ndarray) -> Flat | OnGpus:
    """Index [n, D] float32 vectors: on all GPUs, or of several processes each on its own."""
    gpus = list(range(faiss.get_num_gpus()))
    if not gpus:
        return Flat(vectors)
    own = launch.local_rank()
    if own is not None:
        gpus = [own % len(gpus)]
    return OnGpus(vectors, gpus)


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
    index = faiss.index_cpu_to_gpus_list(flat, options, gpus)
    index.add(vectors)
    return index


def _if_room(work: Callable[[], T]) -> T | None:
    """Let GPUs do something; None, and one line that says so, where their memory is too small.

    Raises:
        RuntimeError: they failed in another way.
    """
    try:
        return work()
    except RuntimeError as error:
        if not files.is_short_of_memory(error):
            raise
        sys.stderr.write("search: a GPU has too little memory left; the CPU searches instead\n")
        return None
