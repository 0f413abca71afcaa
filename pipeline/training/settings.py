"""The sections of params.yaml that shape a run: what every run reads, and what its tower adds."""

from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    field_validator,
)

from pipeline.content import blocks, lora
from pipeline.data import split
from pipeline.data.kinds import LossName
from pipeline.machine import Machine
from pipeline.models import items, recommender, users
from pipeline.params import Params, Section, Seed
from pipeline.training import grid
from pipeline.training.negatives import Negatives
from pipeline.training.schedule import Schedule


class Training(Schedule):
    """How every run learns; `end2end` has its own schedule for when the encoder joins."""

    loss: LossName
    negatives: Negatives
    batch_users: PositiveInt  # B
    weight_decay: NonNegativeFloat
    # Times that the learning rate drops to a fifth, back at the best weights.
    decays: NonNegativeInt


class Layers(Section):
    """Whole blocks of each encoder train."""

    # So many blocks from the top, with what stands above; 0 = none.
    layers: NonNegativeInt | Literal["all"]

    def unfreeze(self, encoder: blocks.Encoder, seed: int) -> None:
        """Let that much of an encoder train; nothing is drawn."""
        encoder.unfreeze(self.layers)


class Adapters(Section):
    """Adapters inside each encoder's blocks train."""

    lora: lora.Lora

    def unfreeze(self, encoder: blocks.Encoder, seed: int) -> None:
        """Let adapters, drawn by a seed, train, and nothing else of an encoder."""
        lora.adapt(encoder, self.lora, seed)


def _one(found: object) -> Layers | Adapters:
    """Read the form that is meant, so that a mistake is named where it stands.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(found, dict) and not {"layers", "lora"} & set(found):
        raise ValueError("it is {layers: blocks of each encoder} or {lora: settings}")
    is_lora = isinstance(found, Adapters) or (isinstance(found, dict) and "lora" in found)
    return Adapters.model_validate(found) if is_lora else Layers.model_validate(found)


Trainable = Annotated[Layers | Adapters, BeforeValidator(_one)]  # what of each encoder trains


class EndToEnd(Schedule):
    """What differs from `training` when the encoder joins."""

    trainable: Trainable
    probe: bool  # head and user encoder first, on the starting encoder's embeddings
    encoder_learning_rate: NonNegativeFloat
    encoder_weight_decay: NonNegativeFloat


class IdRun(Params):
    """The sections that a run on ids reads; they are part of every other run's too.

    All but `machine` decide its results, and dvc.yaml names them.
    """

    protocol: split.Protocol
    model: recommender.ModelSettings
    user_encoders: users.UserEncoders
    training: Training
    search: grid.Search
    seeds: list[Seed] = Field(min_length=1)  # the first one searches

    @field_validator("seeds")
    @classmethod
    def _are_distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is listed twice; its training would be the same")
        return seeds

    machine: Machine


class ContentRun(IdRun):
    """The sections that a run on embeddings reads: those of every run, and its tower's."""

    tower: items.TowerSettings


class EndToEndRun(ContentRun):
    """The sections that a run reads whose encoders train: those on content, and how they do."""

    end2end: EndToEnd
