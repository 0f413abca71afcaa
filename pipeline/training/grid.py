"""The search around `fit`: the same number of trials for every run, chosen on validation."""

import itertools
from typing import NamedTuple

from pydantic import NonNegativeFloat, PositiveFloat

from pipeline.data import files
from pipeline.params import Section


class Search(Section):
    """Values to try; an empty list means the one value that `training` or `end2end` names.

    Every run tries learning rates times a second axis: the encoder's learning rate where an
    encoder trains, the weight decay elsewhere.
    """

    learning_rate: list[PositiveFloat]
    weight_decay: list[NonNegativeFloat]
    encoder_learning_rate: list[NonNegativeFloat]


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
    """List the points a run tries.

    Args:
        search: the axes.
        default: what an axis without values takes.
        encoder_trains: whether the second axis is the encoder's learning rate.

    Raises:
        Stop: the second axes differ in length, so that some runs would be tuned more than others,
            or a value stands twice on an axis.
    """
    for axis, values in search.model_dump().items():
        if len(set(values)) < len(values):
            raise files.Stop(
                f"params.yaml: search.{axis} is {values}: a value stands there twice; "
                "every point is tried once, so name each value once"
            )
    if len(search.weight_decay) != len(search.encoder_learning_rate):
        raise files.Stop(
            f"params.yaml: search.weight_decay has {len(search.weight_decay)} values and "
            f"search.encoder_learning_rate {len(search.encoder_learning_rate)}; every run must try "
            "the same number of points, so give both the same number (or leave both empty)"
        )
    rates = search.learning_rate or [default.learning_rate]
    if encoder_trains:
        second = search.encoder_learning_rate or [default.encoder_learning_rate]
        return [Point(r, default.weight_decay, e) for r, e in itertools.product(rates, second)]
    decays = search.weight_decay or [default.weight_decay]
    return [Point(r, d, default.encoder_learning_rate) for r, d in itertools.product(rates, decays)]
