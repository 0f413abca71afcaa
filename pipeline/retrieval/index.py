"""Exact inner product search by FAISS: on the GPUs where there are any, else on the CPU."""

import os
import sys
from typing import Any

import faiss
import numpy as np


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
    """Search on GPUs, each with its part of the vectors [n, D] float32."""

    limit = 2048  # FAISS's, on a GPU

    def __init__(self, vectors: np.ndarray, gpus: list[int]) -> None:
        options = faiss.GpuMultipleClonerOptions()
        options.shard = True
        flat = faiss.IndexFlatIP(vectors.shape[1])
        self.index: Any = faiss.index_cpu_to_gpus_list(flat, options, gpus)
        self.index.add(vectors)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the k best, as `Flat` does; k is at most `limit`."""
        scores, found = self.index.search(queries, k)
        return scores, found


def index_of(vectors: np.ndarray) -> Flat | OnGpus:
    """Index [n, D] float32 vectors: on all GPUs, or of several processes each on its own."""
    gpus = list(range(faiss.get_num_gpus()))
    if not gpus:
        return Flat(vectors)
    if "LOCAL_RANK" in os.environ:
        gpus = [int(os.environ["LOCAL_RANK"]) % len(gpus)]
    return OnGpus(vectors, gpus)


def set_threads(threads: int) -> None:
    """Let FAISS use so many threads; 0 leaves its own choice (the cores, or OMP_NUM_THREADS)."""
    if threads > 0:
        faiss.omp_set_num_threads(threads)
