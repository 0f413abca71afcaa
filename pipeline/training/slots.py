"""Slots: what of users' training windows is read, hidden, and to be predicted."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.data import sequences
from pipeline.data.sequences import Lists
from pipeline.models.rows import Masking


class Slots(NamedTuple):
    """What of windows is read, and what is to be predicted."""

    is_read: np.ndarray  # [W] bool
    is_wanted: np.ndarray  # [W] bool
    lengths: np.ndarray  # [B] int64, how many items of each user are read


def of_windows(windows: Lists, masking: Masking | None, of_step: Sequence[int]) -> Slots:
    """Say what of users' windows is read, and what is to be predicted.

    Args:
        windows: those of the batch's users, W items in all.
        masking: what is hidden; none: each item but the last is read, to predict the next one.
        of_step: the source of randomness.
    """
    lengths = sequences.lengths(windows)
    if masking is not None:
        rng = np.random.default_rng([*of_step, 2])
        return Slots(np.ones(len(windows.items), bool), hide(lengths, masking, rng), lengths)
    is_last = np.zeros(len(windows.items), bool)
    is_last[windows.offsets[1:] - 1] = True
    return Slots(~is_last, ~np.roll(is_last, 1), lengths - 1)


def hide(lengths: np.ndarray, masking: Masking, rng: np.random.Generator) -> np.ndarray:
    """Choose what to hide of histories: each item by chance, or the last one alone; one at least.

    Args:
        lengths: [B] int, items of each history.
        masking: the shares.
        rng: the source of randomness.

    Returns:
        [W] bool, history by history.
    """
    owners, starts = np.repeat(np.arange(len(lengths)), lengths), np.cumsum(lengths) - lengths
    is_alone = rng.random(len(lengths)) < masking.last
    hidden = (rng.random(len(owners)) < masking.share) & ~is_alone[owners]
    any_one = starts + (rng.random(len(lengths)) * lengths).astype(np.int64)
    hidden[(starts + lengths - 1)[is_alone]] = True
    hidden[any_one[np.bincount(owners[hidden], minlength=len(lengths)) == 0]] = True
    return hidden
