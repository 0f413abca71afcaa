"""Batches: users' training windows -> the distinct items to encode, and which slot wants which.

A batch is a function of (seed, epoch, step) alone, so that a resumed run needs no more than two
counters to see the same batches.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.content import device, processes
from pipeline.data import files, sequences
from pipeline.data.sequences import Lists
from pipeline.data.tables import PAD
from pipeline.models.users import Rows

LossName = Literal["in_batch", "bce", "full_softmax"]
AHEAD = 3  # batches made while a GPU works on another


class Batch(NamedTuple):
    """Some users' training windows; an item is named by its place in the batch's own list."""

    items: Tensor  # [M] int64, distinct items, ascending: each is encoded once; stays on the CPU
    draws: Tensor  # [2, M] float32, uniform in [0, 1): whether training hides a modality of it
    inputs: Tensor  # [P] int64, place in `items` of each item that has a next one, user by user
    targets: Tensor  # [P] int64, place of the next one
    negatives: Tensor  # [P] int64, place of a uniform negative each (`bce`), else empty
    rows: Rows  # of the inputs
    counts: Tensor  # [M] float64, times an item stands in the batch's windows
    log_share: Tensor  # [M] float64, log of the item's share of the domain's training interactions
    users: int  # B, those of all processes
    share: float  # of the inputs of all processes

    def to(self, where: torch.device) -> "Batch":
        """Move to a device what is computed with there: no copy waits for another."""
        return self._replace(
            inputs=device.move(self.inputs, where),
            targets=device.move(self.targets, where),
            negatives=device.move(self.negatives, where),
            rows=self.rows.to(where),
            counts=device.move(self.counts, where),
            log_share=device.move(self.log_share, where),
        )

    def own(self) -> Tensor:
        """Mark the items of each user's own window: [B, M] bool."""
        B, M = len(self.rows.lengths), len(self.counts)
        marks = torch.zeros(B * M, dtype=torch.bool, device=self.inputs.device)
        for places in (self.inputs, self.targets):
            marks = marks.index_fill(0, self.rows.owners * M + places, value=True)
        return marks.view(B, M)

    def part(self, number: int, of: int) -> "Batch":
        """Take one of several even parts of the users; the items stay those of all.

        It is empty where there are fewer users than parts.
        """
        if of == 1:
            return self
        kept = np.array_split(np.arange(self.users), of)[number]
        lengths = self.rows.lengths.numpy()[kept]
        first = int(np.searchsorted(self.rows.owners.numpy(), kept.min(initial=self.users)))
        places = slice(first, first + int(lengths.sum()))
        return self._replace(
            inputs=self.inputs[places],
            targets=self.targets[places],
            negatives=self.negatives[places],
            rows=Rows.of(lengths),
            share=int(lengths.sum()) / len(self.inputs),
        )


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
        self.train = train
        self.catalogue = np.flatnonzero(candidates)
        self.users, self.loss, self.seed = users, loss, seed
        self.learners = np.flatnonzero(lengths > 1)  # with one item there is nothing to predict
        if not len(self.learners):
            raise files.Stop(
                "no user has two items to learn from beside the two held out; "
                "raise protocol.window, or bring users with four items or more"
            )
        if loss == "bce" and len(self.catalogue) <= lengths.max():
            raise files.Stop(
                f"training.loss: bce draws negatives outside a user's window of up to "
                f"{lengths.max()} items, and the catalogue has only {len(self.catalogue)}; "
                "use in_batch or full_softmax"
            )
        counts = np.bincount(train.items, minlength=len(candidates))
        with np.errstate(divide="ignore"):  # an item without interactions is never a target
            self.log_share = np.log(counts / counts.sum())
        self.places = np.zeros(len(candidates), np.int64)  # in the catalogue
        self.places[self.catalogue] = np.arange(len(self.catalogue))
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
        windows = sequences.take(self.train, users)
        drawn = np.empty(0, np.int64)
        if self.loss == "bce":
            drawn = self.negatives(windows, epoch, step)
        if self.loss == "full_softmax":
            items, places = self.catalogue, self.places[windows.items]
        else:
            items, places = np.unique(np.concatenate([windows.items, drawn]), return_inverse=True)
        places, negatives = places[: len(windows.items)], places[len(windows.items) :]
        lengths = sequences.lengths(windows)
        is_last = np.zeros(len(places), bool)
        is_last[windows.offsets[1:] - 1] = True
        is_first = np.roll(is_last, 1)
        # Not the generator of negatives: their number differs by loss.
        draws = np.random.default_rng([self.seed, epoch, step + 1, 1])
        counts = np.bincount(places, minlength=len(items)).astype(np.float64)
        return Batch(
            items=torch.from_numpy(items.astype(np.int64)),
            draws=torch.from_numpy(draws.random((2, len(items)), np.float32)),
            inputs=torch.from_numpy(places[~is_last]),
            targets=torch.from_numpy(places[~is_first]),
            negatives=torch.from_numpy(negatives),
            rows=Rows.of(lengths - 1),
            counts=torch.from_numpy(counts),
            log_share=torch.from_numpy(self.log_share[items]),
            users=len(users),
            share=1.0,
        )

    def epoch(self, epoch: int, first: int, where: torch.device) -> Iterator[Batch]:
        """Make this process's batches of an epoch from step `first` on, on its device.

        For a GPU, some are made ahead of its work.
        """
        number, of = processes.rank(), processes.size()

        def make(step: int) -> Batch:
            return self.batch(epoch, step).part(number, of).to(where)

        if where.type == "cpu":
            yield from map(make, range(first, self.steps))
            return
        with ThreadPoolExecutor(1) as pool:
            made: deque[Future[Batch]] = deque()
            for step in range(first, self.steps):
                made.append(pool.submit(make, step))
                if len(made) > AHEAD:
                    yield made.popleft().result()
            while made:
                yield made.popleft().result()

    def negatives(self, windows: Lists, epoch: int, step: int) -> np.ndarray:
        """Draw a uniform negative a slot, never of the user's own training window.

        Held-out items may be drawn: sparing them would tell the model which they are.

        Args:
            windows: those of the batch's users.
            epoch: with `step`, the source of randomness.
            step: within the epoch.

        Returns:
            [P] int64 items, user by user.
        """
        # From 1: NumPy takes [a, b, 0] for [a, b], which draws the order of users.
        rng = np.random.default_rng([self.seed, epoch, step + 1])
        padded = sequences.pad(windows, int(sequences.lengths(windows).max()))
        drawn = rng.choice(self.catalogue, size=(len(padded), padded.shape[1] - 1))
        while True:
            rejected = (drawn[:, :, None] == padded[:, None, :]).any(2)
            if not rejected.any():
                kept: np.ndarray = drawn[padded[:, 1:] != PAD]
                return kept
            drawn[rejected] = rng.choice(self.catalogue, size=int(rejected.sum()))
