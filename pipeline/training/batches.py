"""Batches: users' training windows -> the distinct items to encode, and which slot wants which.

A batch is a function of (seed, epoch, step) alone, so that a resumed run needs no more than two
counters to see the same batches.
"""

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.data import files, sequences
from pipeline.data.sequences import Lists
from pipeline.data.tables import PAD

LossName = Literal["in_batch", "bce", "full_softmax"]


class Batch(NamedTuple):
    """Some users' training windows; every position is a row of the batch's own list of items."""

    items: Tensor  # [M] int64, distinct items, ascending: each is encoded once
    inputs: Tensor  # [B, T] int64, positions in `items`; nobody reads past a row's length
    lengths: Tensor  # [B] int64, inputs of each user
    targets: Tensor  # [P] int64, position of the next item at each slot, row by row
    owners: Tensor  # [P] int64, the slot's row in the batch
    negatives: Tensor  # [P] int64, position of a uniform negative a slot (`bce`), else empty
    counts: Tensor  # [M] float64, times an item stands in the batch's windows
    own: Tensor  # [B, M] bool, items of the user's own window
    log_share: Tensor  # [M] float64, log of the item's share of the domain's training interactions

    def to(self, device: torch.device) -> "Batch":
        """Move every tensor to a device."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))


class Batches:
    """All batches of a domain's training windows."""

    def __init__(
        self, train: Lists, candidates: np.ndarray, users: int, loss: LossName, seed: int
    ) -> None:
        """Hold the windows of the training users.

        Args:
            train: each user's window without its held-out items.
            candidates: [N + 1] bool, the catalogue.
            users: B, users a batch.
            loss: decides which items a batch has beside those of its windows.
            seed: of the order of users and of the negatives.

        Raises:
            Stop: no user has two items to learn from, or the catalogue is too small for negatives
                outside every window.
        """
        lengths = sequences.lengths(train)
        self.windows = sequences.pad(train, int(lengths.max()))
        self.lengths = lengths
        self.catalogue = np.flatnonzero(candidates)
        self.users, self.loss, self.seed = users, loss, seed
        self.learners = np.flatnonzero(lengths > 1)  # with one item there is nothing to predict
        if not len(self.learners):
            raise files.Stop(
                "no user has two items to learn from beside the two held out; "
                "raise protocol.window, or bring users with four items or more"
            )
        if loss == "bce" and len(self.catalogue) <= self.windows.shape[1]:
            raise files.Stop(
                f"training.loss: bce draws negatives outside a user's window of up to "
                f"{self.windows.shape[1]} items, and the catalogue has only {len(self.catalogue)}; "
                "use in_batch or full_softmax"
            )
        counts = np.bincount(train.items, minlength=len(candidates))
        with np.errstate(divide="ignore"):  # an item without interactions is never a target
            self.log_share = np.log(counts / counts.sum())
        self.steps = -(-len(self.learners) // users)
        self._order = (-1, np.empty(0, np.int64))

    def order(self, epoch: int) -> np.ndarray:
        """Give the order of the users that can learn in an epoch."""
        if self._order[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            self._order = (epoch, rng.permutation(self.learners))
        return self._order[1]

    def batch(self, epoch: int, step: int) -> Batch:
        """Make one batch of an epoch."""
        users = self.order(epoch)[step * self.users : (step + 1) * self.users]
        lengths = self.lengths[users]
        windows = self.windows[users, : lengths.max()]  # [B, T + 1]
        is_item = windows != PAD
        negatives = self.negatives(windows, epoch, step) if self.loss == "bce" else windows[:0, 1:]
        if self.loss == "full_softmax":
            items = self.catalogue
        else:
            items = np.union1d(windows[is_item], negatives[negatives != PAD]).astype(np.int64)
        slots = np.searchsorted(items, windows)  # positions; a pad's is 0
        slots[~is_item] = 0

        own = np.zeros((len(users), len(items)), bool)
        rows = np.broadcast_to(np.arange(len(users))[:, None], windows.shape)
        own[rows[is_item], slots[is_item]] = True
        has_next = is_item[:, 1:]
        return Batch(
            items=torch.from_numpy(items),
            inputs=torch.from_numpy(slots[:, :-1]),
            lengths=torch.from_numpy(lengths - 1),
            targets=torch.from_numpy(slots[:, 1:][has_next]),
            owners=torch.from_numpy(rows[:, 1:][has_next]),
            negatives=torch.from_numpy(np.searchsorted(items, negatives[negatives != PAD])),
            counts=torch.from_numpy(
                np.bincount(slots[is_item], minlength=len(items)).astype(np.float64)
            ),
            own=torch.from_numpy(own),
            log_share=torch.from_numpy(self.log_share[items]),
        )

    def negatives(self, windows: np.ndarray, epoch: int, step: int) -> np.ndarray:
        """Draw a uniform negative a slot, never of the user's own training window.

        Held-out items may be drawn: sparing them would tell the model which they are.

        Args:
            windows: [B, T + 1] int32, right-padded.
            epoch: with `step`, the source of randomness.
            step: within the epoch.

        Returns:
            [B, T] int64 items; PAD where the slot has no next item.
        """
        # From 1: NumPy takes [a, b, 0] for [a, b], which draws the order of users.
        rng = np.random.default_rng([self.seed, epoch, step + 1])
        drawn = rng.choice(self.catalogue, size=(len(windows), windows.shape[1] - 1))
        while True:
            rejected = (drawn[:, :, None] == windows[:, None, :]).any(2)
            if not rejected.any():
                return np.where(windows[:, 1:] != PAD, drawn, PAD)
            drawn[rejected] = rng.choice(self.catalogue, size=int(rejected.sum()))
