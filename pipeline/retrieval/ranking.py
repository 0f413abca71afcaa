"""Where each held-out item stands: how many candidates are better, how many tied with it."""

from typing import NamedTuple

import numpy as np

from pipeline.data import sequences
from pipeline.data.split import HeldOut
from pipeline.retrieval import scoring
from pipeline.retrieval.scoring import Chunk


class Ranks(NamedTuple):
    """Where each held-out item stands; not retrieved: 0 tied, and 0 or `depth` better.

    With 0 better it may not be retrieved at all (it is masked or no candidate), with `depth`
    better it stands further down than was looked.
    """

    better: np.ndarray  # [U] int32, candidates with a higher score, beyond the tolerance
    tied: np.ndarray  # [U] int32, candidates with the held-out item's score, itself included


def of_search(chunk: Chunk, held_out: np.ndarray, depth: int) -> tuple[Ranks, np.ndarray]:
    """Count who is better and who is tied among the items found, and tell where that is certain.

    Args:
        chunk: what was found.
        held_out: [B] int, the held-out items.
        depth: the largest K that is asked for; with so many better ones the rest may go uncounted.

    Returns:
        The counts, which mean nothing where they are not certain, and [B] bool, where they are.
    """
    is_own, scores = chunk.found == held_out[:, None], chunk.scores.astype(np.float64)
    own = np.vecdot(chunk.queries, chunk.items[held_out]).astype(np.float64)
    own = np.where(is_own.any(axis=1), (scores * is_own).sum(axis=1), own)  # as found, if found
    ahead = np.where(chunk.is_masked, -np.inf, scores - own[:, None])
    tolerance = chunk.tolerance[:, None]

    # The float32 error is below half the tolerance: only what lies between half and twice the
    # tolerance could fall on either side of it.
    distance = np.abs(ahead)
    is_unclear = ((distance > tolerance / 2) & (distance < 2 * tolerance)).any(axis=1)
    is_deep_enough = chunk.is_complete | (own - 2 * chunk.tolerance > scores[:, -1])
    is_past = (ahead > 2 * tolerance).sum(axis=1) >= depth
    unclear = np.flatnonzero(is_unclear & is_deep_enough & ~is_past)
    exact = scoring.exactly(chunk.queries[unclear], chunk.items, chunk.found[unclear])
    exact -= scoring.exactly(chunk.queries[unclear], chunk.items, held_out[unclear, None])
    ahead[unclear] = np.where(chunk.is_masked[unclear], -np.inf, exact)

    better = (ahead > tolerance).sum(axis=1, dtype=np.int32)
    tied = (np.abs(ahead) <= tolerance).sum(axis=1, dtype=np.int32)
    return Ranks(better, tied), is_deep_enough | is_past


def of_scores(
    scores: np.ndarray, held_out: np.ndarray, depth: int, tolerance: np.ndarray | float = 0.0
) -> Ranks:
    """Rank each user's held-out item by the scores of all items, exhaustively.

    Args:
        scores: [B, N + 1] float, of every item for every user; -inf where it may not be retrieved.
        held_out: [B] int, the held-out items.
        depth: the largest K that is asked for; lower ranks are not told apart.
        tolerance: [B] float or one number, scores so close are ties.
    """
    own = scores[np.arange(len(scores)), held_out]
    is_reachable = own > -np.inf
    own = np.where(is_reachable, own, np.inf)
    better = (scores > (own + tolerance)[:, None]).sum(axis=1)
    tied = (scores >= (own - tolerance)[:, None]).sum(axis=1) - better
    return not_past(depth, is_reachable, better, tied)


def not_past(depth: int, is_reachable: np.ndarray, better: np.ndarray, tied: np.ndarray) -> Ranks:
    """Make all ranks from `depth` on one and the same, so that no search depth shows in them.

    Args:
        depth: the largest K that is asked for.
        is_reachable: [U] bool, whether the held-out item may be retrieved.
        better: [U] int, candidates with a higher score than the held-out item.
        tied: [U] int, candidates with the same score, itself included.
    """
    is_found = is_reachable & (better < depth)
    return Ranks(
        better=np.where(is_reachable, np.minimum(better, depth), 0).astype(np.int32),
        tied=np.where(is_found, tied, 0).astype(np.int32),
    )


def reachable(held_out: HeldOut, candidates: np.ndarray) -> np.ndarray:
    """Tell the users whose held-out item is a candidate and not in their own mask: [U] bool.

    Args:
        held_out: the item of each user and what is masked.
        candidates: [N + 1] bool, the items that may be retrieved.
    """
    owners = sequences.owners(held_out.masked)
    is_own = held_out.masked.items == held_out.items[owners]
    is_masked = np.zeros(len(held_out.items), bool)
    is_masked[owners[is_own]] = True
    return np.asarray(candidates[held_out.items] & ~is_masked)
