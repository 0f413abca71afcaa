"""The sections of params.yaml that shape a run: what every run reads, and what its tower adds."""

from pydantic import Field

from pipeline.data import split
from pipeline.machine import Machine
from pipeline.models import items, recommender, users
from pipeline.params import Params
from pipeline.training import grid, loop


class IdRun(Params):
    """What every run reads."""

    protocol: split.Protocol
    model: recommender.ModelSettings
    user_encoders: users.UserEncoders
    training: loop.Training
    search: grid.Search
    seeds: list[int] = Field(min_length=1)  # the first one searches
    machine: Machine


class ContentRun(IdRun):
    """What runs on content read beside."""

    tower: items.TowerSettings


class EndToEndRun(ContentRun):
    """What runs whose encoders train read beside."""

    end2end: loop.EndToEnd
