"""Leave-one-out in the window of a user's last items: train part, validation and test item."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

from pipeline.data import sequences
from pipeline.data.sequences import Lists
from pipeline.params import Section

CUTOFF = 10  # the K of the validation metric that selects the best epoch
HELD_OUT = 2  # the last item of a window is for the test, the one before for validation


class Protocol(Section):
    """How users are tested; training's validation and `evaluate` share it."""

    min_items: int = Field(ge=HELD_OUT + 1)  # users with fewer are dropped
    window: int = Field(ge=HELD_OUT + 2)  # a user's last items that count, two to learn from
    train: Literal["window", "all"]  # what is learned from: the windows, or what is before them too
    mask: Literal["window", "all", "none"]  # what of a user's past may not be retrieved
    catalogue: Literal["window", "all"]  # candidates: items of the windows, or the item table
    select: Literal["hr@10", "ndcg@10"]  # the validation metric of the best epoch, at CUTOFF

    @property
    def history(self) -> int:
        """The longest history a user encoder reads, L."""
        return self.window - HELD_OUT - 1


class HeldOut(NamedTuple):
    """One held-out item a user, and what is known before it."""

    histories: Lists  # what the user encoder reads, oldest first, at most window - 3 items
    masked: Lists  # items that may not be retrieved
    items: np.ndarray  # [U] int32, the held-out item


class Split(NamedTuple):
    """A domain's interactions, divided."""

    train: Lists  # rows of window - 2 items at most: windows without held-out items; older pieces
    valid: HeldOut
    test: HeldOut
    candidates: np.ndarray  # [N + 1] bool, the catalogue; PAD is never in it


def split(histories: Lists, n_items: int, protocol: Protocol) -> Split:
    """Divide each user's history, oldest item first, into train part, validation and test.

    Where all is learned from, what is before a user's window follows it as further rows, in pieces
    of its length; validation, test and candidates are those of the windows, and older items that
    are no candidates are left out.

    Args:
        histories: whole histories, row u is user u's.
        n_items: N, the number of items in the item table.
        protocol: window, train, mask and catalogue.

    Raises:
        ValueError: a user has too few items to hold two out of.
    """
    shortest = sequences.lengths(histories).min(initial=protocol.min_items)
    if shortest < protocol.min_items:
        raise ValueError(
            f"a user has {shortest} items, fewer than protocol.min_items = {protocol.min_items}"
        )
    windows = sequences.last(histories, protocol.window)
    known = sequences.drop_last(windows, HELD_OUT)
    catalogue = _candidates(windows, n_items, protocol)
    train = known
    if protocol.train == "all":
        whole = sequences.marked(sequences.drop_last(histories, HELD_OUT), catalogue)
        train = sequences.cut(whole, protocol.window - HELD_OUT)
    return Split(
        train=train,
        valid=_held_out(histories, windows, known, HELD_OUT, protocol),
        test=_held_out(histories, windows, sequences.drop_last(windows, 1), 1, protocol),
        candidates=catalogue,
    )


def candidates(histories: Lists, n_items: int, protocol: Protocol) -> np.ndarray:
    """Mark the catalogue of `split` alone: [N + 1] bool."""
    return _candidates(sequences.last(histories, protocol.window), n_items, protocol)


def part(held_out: HeldOut, number: int, of: int) -> HeldOut:
    """Take one of several even parts of the users."""
    if of == 1:
        return held_out
    users = np.array_split(np.arange(len(held_out.items)), of)[number]
    histories, masked = (sequences.take(lists, users) for lists in held_out[:2])
    return HeldOut(histories, masked, held_out.items[users])


def _candidates(windows: Lists, n_items: int, protocol: Protocol) -> np.ndarray:
    marks = np.full(n_items + 1, protocol.catalogue == "all")
    if protocol.catalogue == "window":
        marks[windows.items] = True
    marks[sequences.PAD] = False
    return marks


def _held_out(
    histories: Lists, windows: Lists, before: Lists, back: int, protocol: Protocol
) -> HeldOut:
    """Hold out the item `back` places from the windows' end; all before it is known."""
    masked: dict[str, Callable[[], Lists]] = {
        "window": lambda: before,
        "all": lambda: sequences.drop_last(histories, back),
        "none": lambda: sequences.last(windows, 0),
    }
    return HeldOut(
        histories=sequences.last(before, protocol.history),
        masked=masked[protocol.mask](),
        items=windows.items[windows.offsets[1:] - back],
    )
