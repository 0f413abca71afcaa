"""The search around `fit`: which settings a run tries; validation chooses."""

import itertools
from typing import NamedTuple, Self

from pydantic import NonNegativeFloat, PositiveFloat, field_validator, model_validator

from pipeline.params import Section


class Search(Section):
    """Values to try; an empty list means the one value that `training` or `end2end` names.

    Every run tries learning rates times weight decays; one whose encoder joins after a probe then
    tries the encoder's learning rates, from the best probe. Without a probe it tries learning rates
    times the encoder's.
    """

    learning_rate: list[PositiveFloat]
    weight_decay: list[NonNegativeFloat]
    encoder_learning_rate: list[NonNegativeFloat]

    @field_validator("*")
    @classmethod
    def each_once(cls, values: list[float]) -> list[float]:
        """Refuse a value that is listed twice."""
        if len(set(values)) < len(values):
            raise ValueError("a value is listed twice; name each once, it is tried once")
        return values

    @model_validator(mode="after")
    def as_many_of_each(self) -> Self:
        """Refuse more tries for what an encoder adds than for what it is added to, or fewer."""
        decays, rates = len(self.weight_decay), len(self.encoder_learning_rate)
        if decays != rates:
            raise ValueError(
                f"weight_decay has {decays} values and encoder_learning_rate {rates}; what an "
                "encoder adds is tuned as much as what it is added to, so give both the same "
                "number (or leave both empty)"
            )
        return self


class Point(NamedTuple):
    """One point of the search grid."""

    learning_rate: float
    weight_decay: float
    encoder_learning_rate: float

    def text(self) -> str:
        """Name it in a line about a run."""
        encoder = self.encoder_learning_rate
        beside = f", the encoder's {encoder:g}" if encoder else ""
        return f"learning rate {self.learning_rate:g}{beside}, weight decay {self.weight_decay:g}"


def points(search: Search, default: Point, encoder_trains: bool) -> list[Point]:
    """List the points that a run's first phase tries.

    Args:
        search: the axes.
        default: what an axis without values takes.
        encoder_trains: whether an encoder trains in it, so that its rate is the second axis.
    """
    rates = search.learning_rate or [default.learning_rate]
    if encoder_trains:
        second = search.encoder_learning_rate or [default.encoder_learning_rate]
        return [Point(r, default.weight_decay, e) for r, e in itertools.product(rates, second)]
    decays = search.weight_decay or [default.weight_decay]
    return [Point(r, d, default.encoder_learning_rate) for r, d in itertools.product(rates, decays)]


def joint_points(search: Search, best: Point, default: Point) -> list[Point]:
    """List the points that the joint phase tries: the encoder's rates, from the best probe.

    Args:
        search: the axes.
        best: the point of the probe that did best on validation, as the frozen run found it too.
        default: what an axis without values takes.
    """
    rates = search.encoder_learning_rate or [default.encoder_learning_rate]
    return [best._replace(encoder_learning_rate=rate) for rate in rates]
