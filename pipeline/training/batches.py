"""Batches: users' training windows -> the distinct items to encode, and which slot wants which.

A batch is a function of (seed, epoch, step) alone, so that a resumed run needs no more than two
counters to see the same batches.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.content import device, feed, processes
from pipeline.data import files, sequences
from pipeline.data.kinds import LossName
from pipeline.data.sequences import Lists
from pipeline.data.split import Split
from pipeline.models.rows import Masking, Rows
from pipeline.training import negatives, slots
from pipeline.training.negatives import Negatives
from pipeline.training.schedule import Plan

AHEAD = 3  # batches made while a GPU works on another


class Batch(NamedTuple):
    """Some users' training windows; an item is named by its place in the batch's own list."""

    items: Tensor  # [M] int64, distinct items, ascending: each is encoded once; stays on the CPU
    draws: Tensor  # [2, M] float32, uniform in [0, 1): whether training hides a modality of it
    inputs: Tensor  # [P] int64, place in `items` of each item read, user by user; M: [MASK]
    asked: Tensor | None  # [Q] int64, which of P are to be predicted; none: all, Q = P
    targets: Tensor  # [Q] int64, place of the item to predict
    negatives: Tensor  # [Q, k] int64, places of a slot's own; [k] those of a step; else [0]
    log_expected: Tensor  # [k] float64, log of how often a step's negative is expected; else [0]
    power: float  # gbce's beta
    rows: Rows  # of the inputs
    counts: Tensor  # [M] float64, times an item stands in the batch's windows
    log_share: Tensor  # [M] float64, log of the item's share of the domain's training interactions
    users: int  # B, those of all processes
    share: float  # of the targets of all processes

    def to(self, where: torch.device) -> "Batch":
        """Move to a device what is computed with there: no copy waits for another."""
        return self._replace(
            inputs=device.move(self.inputs, where),
            asked=None if self.asked is None else device.move(self.asked, where),
            targets=device.move(self.targets, where),
            negatives=device.move(self.negatives, where),
            log_expected=device.move(self.log_expected, where),
            rows=self.rows.to(where),
            counts=device.move(self.counts, where),
            log_share=device.move(self.log_share, where),
        )

    @property
    def owners(self) -> Tensor:
        """The user of each target: [Q] int64."""
        owners = self.rows.owners
        return owners if self.asked is None else owners[self.asked]

    def own(self) -> Tensor:
        """Mark the items of each user's own window: [B, M] bool."""
        B, M = len(self.rows.lengths), len(self.counts)
        marks = torch.zeros(B * (M + 1), dtype=torch.bool, device=self.inputs.device)
        for owners, places in ((self.rows.owners, self.inputs), (self.owners, self.targets)):
            marks = marks.index_fill(0, owners * (M + 1) + places, value=True)
        return marks.view(B, M + 1)[:, :M]

    def part(self, number: int, of: int) -> "Batch":
        """Take one of several even parts of the users; the items stay those of all.

        It is empty where there are fewer users than parts.
        """
        if of == 1:
            return self
        users = np.array_split(np.arange(self.users), of)[number]
        lengths = self.rows.lengths.numpy()[users]
        first = int(np.searchsorted(self.rows.owners.numpy(), users.min(initial=self.users)))
        input_range = slice(first, first + int(lengths.sum()))  # of P
        target_range = input_range if self.asked is None else within(self.asked, input_range)
        targets = self.targets[target_range]
        return self._replace(
            inputs=self.inputs[input_range],
            asked=None if self.asked is None else self.asked[target_range] - first,
            targets=targets,
            negatives=self.negatives if len(self.log_expected) else self.negatives[target_range],
            rows=Rows.of(lengths),
            share=len(targets) / len(self.targets),
        )


class Batches:
    """All batches of a domain's training windows."""

    def __init__(
        self,
        train: Lists,
        candidates: np.ndarray,
        users: int,
        loss: LossName,
        settings: Negatives,
        seed: int,
        masking: Masking | None = None,
    ) -> None:
        """Hold the windows of the training users.

        Args:
            train: each user's window without its held-out items.
            candidates: [N + 1] bool, the catalogue.
            users: B, users a batch.
            loss: decides which items a batch has beside those of its windows.
            settings: of the negatives.
            seed: of the order of users, of negatives, and of what is hidden.
            masking: what is hidden, to be restored; none: the next item is predicted everywhere.

        Raises:
            Stop: no user has two items to learn from, or the catalogue is too small for negatives
                outside every window.
        """
        lengths = sequences.lengths(train)
        self.train = train
        self.catalogue = np.flatnonzero(candidates)
        self.users, self.loss, self.seed, self.masking = users, loss, seed, masking
        self.learners = np.flatnonzero(lengths > 1)  # with one item there is nothing to predict
        if not len(self.learners):
            raise files.Stop(
                "no user has two items to learn from beside the two held out; "
                "raise protocol.window, or bring users with four items or more"
            )
        counts = np.bincount(train.items, minlength=len(candidates))
        with np.errstate(divide="ignore"):  # an item without interactions is never a target
            self.log_share = np.log(counts / counts.sum())
        self.sampler = negatives.Sampler(self.catalogue, counts, settings)
        if loss in negatives.OF_SLOTS and self.sampler.drawable <= lengths.max():
            self._check_drawable()
        self.power = negatives.gbce_power(settings, len(self.catalogue)) if loss == "gbce" else 1.0
        self.steps = -(-len(self.learners) // users)
        self._order = (-1, np.empty(0, np.int64))

    def _check_drawable(self) -> None:
        """See that every user leaves an item to draw; one that comes again counts once."""
        width = int(self.train.items.max()) + 1
        most = np.bincount(sequences.distinct(self.train, width) // width).max()
        if self.sampler.drawable <= most:
            raise files.Stop(
                f"training.loss: {self.loss} draws negatives outside a user's window of up to "
                f"{most} items, and there are only {self.sampler.drawable} to draw from; "
                "use in_batch or full_softmax"
            )

    def order(self, epoch: int) -> np.ndarray:
        """Give the order of the users that can learn in an epoch."""
        if self._order[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            self._order = (epoch, rng.permutation(self.learners))
        return self._order[1]

    def batch(self, epoch: int, step: int) -> Batch:
        """Make one batch of an epoch: W items stand in its users' windows, P of them are read."""
        # From 1: NumPy takes [a, b, 0] for [a, b], which draws the order of users.
        of_step = [self.seed, epoch, step + 1]
        users = self.order(epoch)[step * self.users : (step + 1) * self.users]  # [B]
        windows = sequences.take(self.train, users)
        is_read, is_wanted, lengths = slots.of_windows(windows, self.masking, of_step)
        drawn = self.negatives(windows, sequences.owners(windows)[is_wanted], of_step)
        n, is_full = len(self.log_share), self.loss == "full_softmax"
        items = self.catalogue if is_full else distinct([windows.items, drawn], n)  # [M]
        # From here on an item is named by its place among these, [MASK] by the one after them.
        own, others = relabel([windows.items, drawn], items, n)  # [W]; as drawn
        inputs = own if self.masking is None else np.where(is_wanted, len(items), own)  # [W]
        # Not the generator of negatives: their number differs by loss.
        draws = np.random.default_rng([*of_step, 1]).random((2, len(items)), np.float32)
        is_shared = self.loss in negatives.OF_STEPS
        expected = self.sampler.log_expected(drawn) if is_shared else np.empty(0)
        counts = np.bincount(own, minlength=len(items)).astype(np.float64)
        return Batch(
            items=torch.from_numpy(items),
            draws=torch.from_numpy(draws),
            inputs=torch.from_numpy(inputs[is_read]),
            asked=None if self.masking is None else torch.from_numpy(np.flatnonzero(is_wanted)),
            targets=torch.from_numpy(own[is_wanted]),
            negatives=torch.from_numpy(others),
            log_expected=torch.from_numpy(expected),
            power=self.power,
            rows=Rows.of(lengths),
            counts=torch.from_numpy(counts),
            log_share=torch.from_numpy(self.log_share[items]),
            users=len(users),
            share=1.0,
        )

    def negatives(self, windows: Lists, owners: np.ndarray, of_step: Sequence[int]) -> np.ndarray:
        """Draw what the loss needs: [Q, k] int64 items for its slots, [k] for its step, or [0].

        Args:
            windows: those of the batch's users.
            owners: [Q] int, the user of each slot.
            of_step: the source of randomness.
        """
        rng = np.random.default_rng(of_step)
        if self.loss in negatives.OF_SLOTS:
            return self.sampler.of_slots(windows, owners, rng)
        if self.loss in negatives.OF_STEPS:
            return self.sampler.draw(rng, self.sampler.settings.number)
        return np.empty(0, np.int64)

    def epoch(self, epoch: int, first: int, where: torch.device) -> Iterator[Batch]:
        """Make this process's batches of an epoch from step `first` on, on its device.

        For a GPU, some are made ahead of its work.
        """
        number, of = processes.rank(), processes.size()

        def make(step: int) -> Batch:
            return self.batch(epoch, step).part(number, of).to(where)

        if where.type == "cpu":
            yield from map(make, range(first, self.steps))
        else:
            yield from feed.ahead(make, range(first, self.steps), AHEAD)


def of_plan(split: Split, plan: Plan, masking: Masking | None, seed: int) -> Batches:
    """Give the batches that a phase learns from on a domain; the rest as `Batches` takes it.

    Raises:
        Stop: the loss needs several users in a batch; or as `Batches` does.
    """
    users, drawn = plan.batch_users, plan.negatives
    made = Batches(split.train, split.candidates, users, plan.loss, drawn, seed, masking)
    if plan.loss == "in_batch" and min(users, len(made.learners)) == 1:
        raise files.Stop(
            "training.loss: in_batch tells a user's next item from those that others of the batch "
            f"met, and a batch has one user ({len(made.learners):,} can learn, "
            f"training.batch_users is {users}): raise batch_users, or use full_softmax, "
            "sampled_softmax or bce"
        )
    return made


def distinct(parts: Sequence[np.ndarray], n: int) -> np.ndarray:
    """Give the distinct items below n of several arrays: [M] int64, ascending."""
    is_there = np.zeros(n, bool)
    for part in parts:
        is_there[part] = True
    return np.flatnonzero(is_there)


def relabel(parts: Sequence[np.ndarray], items: np.ndarray, n: int) -> list[np.ndarray]:
    """Name items by their places in a list: int64, each array in its shape.

    Args:
        parts: arrays of items, all of them in the list.
        items: [M], the list, distinct.
        n: what all items are below.
    """
    places = np.empty(n, np.int64)
    places[items] = np.arange(len(items))
    return [places[part] for part in parts]


def within(ascending: Tensor, of: slice) -> slice:
    """Tell where in a list, ascending, the numbers of a range stand."""
    return slice(*np.searchsorted(ascending.numpy(), [of.start, of.stop]).tolist())
