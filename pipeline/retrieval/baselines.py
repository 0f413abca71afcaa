"""Recommenders without training, ranked by the same rules: what any trained run must beat."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy import sparse

from pipeline.data import sequences
from pipeline.data.progress import Progress
from pipeline.data.sequences import Lists
from pipeline.data.split import HeldOut
from pipeline.retrieval import ranking, recommended, search
from pipeline.retrieval.ranking import Ranks
from pipeline.retrieval.search import Found

NEIGHBOURS_OF = 10  # itemknn and contentknn look at the last 10 items of a history
CHUNK_SCORES = 1 << 23  # scores held at once: users x items
DIGITS = 9  # of itemknn's scores: sums of at most 10 cosines, in another order, differ by less


def popularity(
    train: Lists, held_out: HeldOut, candidates: np.ndarray, depth: int, k: int
) -> Found:
    """Retrieve by how often an item stands in the train parts; equal counts are ties.

    Args:
        train: the train parts.
        held_out: what is held out and masked.
        candidates: [N + 1] bool, the items that may be retrieved.
        depth: the largest K that is asked for.
        k: how many items to list; 0 for none.
    """
    counts = np.bincount(train.items, minlength=len(candidates))
    _, places = np.unique(counts, return_inverse=True)  # large counts would tie in float32
    items = places.astype(np.float32)[:, None]
    queries = np.ones((len(held_out.items), 1), np.float32)
    return search.retrieve(queries, items, held_out, candidates, depth, k)


def itemknn(train: Lists, held_out: HeldOut, candidates: np.ndarray, depth: int, k: int) -> Found:
    """Retrieve by the summed cosine to the history's last items of the sets of users who had them.

    Args:
        train: the train parts, from which the similarities come.
        held_out: the histories to continue, and what is held out.
        candidates: [N + 1] bool, the items that may be retrieved.
        depth: the largest K that is asked for.
        k: how many items to list; 0 for none.
    """
    had = _incidence(train, len(candidates))  # [U, N + 1]
    users_of = np.asarray(had.sum(axis=0)).ravel()
    unit = had @ sparse.diags_array(1 / np.sqrt(np.maximum(users_of, 1)))
    similarities = (unit.T @ unit).tocsr()
    recent = _incidence(sequences.last(held_out.histories, NEIGHBOURS_OF), len(candidates))

    better, tied = np.zeros((2, len(held_out.items)), np.int32)
    lists = np.zeros((len(held_out.items), k), np.int32)
    step = max(1, CHUNK_SCORES // len(candidates))
    progress = Progress("search by itemknn, users", len(better))
    for start in range(0, len(better), step):
        users = np.arange(start, min(start + step, len(better)))
        scores, masked = (
            (recent[users] @ similarities).toarray(),
            sequences.take(held_out.masked, users),
        )
        allowed = search.allow(scores, masked, candidates)
        better[users], tied[users] = ranking.of_scores(
            allowed, held_out.items[users], depth, 10.0**-DIGITS
        )
        if k:
            rounded = partial(_rounded, allowed)
            lists[users] = recommended.of_scores(allowed, k, 2 * 10.0**-DIGITS, rounded, floor=0.0)
        progress.advance(len(users))
    return Found(Ranks(better, tied), lists)


def contentknn(
    embeddings: Sequence[np.ndarray],
    held_out: HeldOut,
    candidates: np.ndarray,
    depth: int,
    k: int,
) -> Found:
    """Retrieve by the cosine to the history's last items, averaged over these and over modalities.

    Args:
        embeddings: one [N + 1, C] float32 a modality; zero where an item has no content.
        held_out: the histories to continue, and what is held out.
        candidates: [N + 1] bool, the items that may be retrieved.
        depth: the largest K that is asked for.
        k: how many items to list; 0 for none.
    """
    items = np.concatenate([_unit(vectors) for vectors in embeddings], axis=1)
    recent = _incidence(sequences.last(held_out.histories, NEIGHBOURS_OF), len(candidates))
    queries = np.asarray(recent @ items, np.float32)
    return search.retrieve(queries, items, held_out, candidates, depth, k)


def _rounded(scores: np.ndarray, row: int, found: np.ndarray) -> np.ndarray:
    """Round the scores of the items found for one user, [n], so that equal ones are equal."""
    return np.asarray(np.round(scores[row, found], DIGITS))


def _incidence(lists: Lists, width: int) -> Any:  # noqa: ANN401  # scipy ships no types
    """Mark each user's items with 1, however often they occur: [U, width] sparse float64."""
    shape = (len(lists.offsets) - 1, width)
    marks = sparse.csr_array(
        (np.ones(len(lists.items)), lists.items, lists.offsets), shape, copy=True
    )
    marks.sum_duplicates()  # in place: hence the copy
    marks.data[:] = 1
    return marks


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Scale to unit length, [N + 1, C] float32; a zero vector stays zero."""
    wide = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(wide / np.where(lengths > 0, lengths, 1))
