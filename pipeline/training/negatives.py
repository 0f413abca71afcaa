"""Negatives: items that a loss sets against the one to predict.

Those of a slot are drawn outside the user's own window, those of a step from the whole catalogue.
"""

import numpy as np
from pydantic import Field, PositiveInt

from pipeline.data import sequences
from pipeline.data.sequences import Lists
from pipeline.params import Section

OF_SLOTS = ("bce", "gbce", "bpr")  # losses that draw negatives for each slot
OF_STEPS = ("sampled_softmax",)  # that draw them once a step, for all its slots
ROUNDS = 64  # of draws anew, before the rest is drawn one by one


class Negatives(Section):
    """How many negatives, and how they are drawn."""

    number: PositiveInt  # k, of a slot or of a step
    popularity: float = Field(ge=0, le=1)  # drawn by share of interactions to this power; 0: evenly
    calibration: float = Field(ge=0, le=1)  # gbce's t: 0 is bce, 1 undoes the sampling


class Sampler:
    """Draws items of a catalogue."""

    def __init__(self, catalogue: np.ndarray, counts: np.ndarray, settings: Negatives) -> None:
        """Prepare to draw.

        Args:
            catalogue: [n] int64 items, ascending.
            counts: [N + 1] int, an item's interactions in training.
            settings: how many, and by which power of the counts.
        """
        weights = counts[catalogue].astype(np.float64) ** settings.popularity  # 0 ** 0 is 1
        self.catalogue, self.settings = catalogue, settings
        self.log_share = np.full(len(counts), -np.inf)  # of each item, how likely a draw is
        with np.errstate(divide="ignore"):
            self.log_share[catalogue] = np.log(weights / weights.sum())
        self.weights = weights
        self.edges = np.cumsum(weights)
        self.edges /= self.edges[-1]  # so that no draw lies past the last item of any weight
        self.drawable = int((weights > 0).sum())

    def draw(self, rng: np.random.Generator, size: int | tuple[int, int]) -> np.ndarray:
        """Draw items with replacement: int64 of the given shape."""
        if self.settings.popularity == 0:
            return self.catalogue[rng.integers(len(self.catalogue), size=size)]
        return self.catalogue[np.searchsorted(self.edges, rng.random(size), side="right")]

    def of_slots(self, windows: Lists, owners: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw k negatives a slot, never of the user's own training window.

        Held-out items may be drawn: sparing them would tell the model which they are.

        Args:
            windows: those of the batch's users.
            owners: [Q] int, the user of each slot, a row of `windows`.
            rng: the source of randomness.

        Returns:
            [Q, k] int64 items.
        """
        n = len(self.log_share)
        met = np.sort(sequences.owners(windows) * n + windows.items)  # a user's item as one number
        drawn = self.draw(rng, (len(owners), self.settings.number))
        rows, columns = np.nonzero(_is_in(met, owners[:, None] * n + drawn))
        for _ in range(ROUNDS):
            if not len(rows):
                break
            drawn[rows, columns] = self.draw(rng, len(rows))
            is_wrong = _is_in(met, owners[rows] * n + drawn[rows, columns])
            rows, columns = rows[is_wrong], columns[is_wrong]
        for row, column in zip(rows, columns, strict=True):  # who has met nearly all there is
            is_own = _is_in(met, owners[row] * n + self.catalogue)
            weights = np.where(is_own, 0.0, self.weights)
            drawn[row, column] = rng.choice(self.catalogue, p=weights / weights.sum())
        return drawn

    def log_expected(self, drawn: np.ndarray) -> np.ndarray:
        """Give the logarithm of how often each of k drawn items is expected among them."""
        return np.asarray(self.log_share[drawn] + np.log(len(drawn)))


def _is_in(known: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Tell which numbers, int64 of any shape, are among the known ones, ascending and not none."""
    places = np.searchsorted(known, numbers)
    return np.asarray(known[np.minimum(places, len(known) - 1)] == numbers)


def gbce_power(settings: Negatives, candidates: int) -> float:
    """Give gbce's beta, the power of a positive's probability.

    With a = k / (n - 1), the share of the other items that is drawn, and t the calibration,
    `beta = a (t (1 - 1 / a) + 1 / a)`: 1 at t = 0, a at t = 1. That undoes even draws; by
    popularity (`settings.popularity` > 0) it is no more than a weight.

    Source: Petrov and Macdonald, "gSASRec", RecSys 2023, equation 12.

    Args:
        settings: k and t.
        candidates: n, items of the catalogue.
    """
    share = min(1.0, settings.number / (candidates - 1))
    return share * (settings.calibration * (1 - 1 / share) + 1 / share)
