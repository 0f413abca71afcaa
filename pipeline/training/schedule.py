"""A phase of training: its plan, its curve, its state, and what it came to."""

from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from pipeline.data.kinds import LossName
from pipeline.params import Section
from pipeline.training.negatives import Negatives


class Schedule(Section):
    """How long a phase learns, and how fast, as params.yaml says it."""

    learning_rate: PositiveFloat  # of all but encoders
    warmup_steps: NonNegativeInt
    epochs: PositiveInt  # the cap; a run that it stops is marked
    patience: PositiveInt  # epochs without a better validation before the drop, and before the end
    patience_steps: NonNegativeInt  # and so many steps: a small domain's epoch has few
    validate_every: PositiveInt  # epochs


class Plan(NamedTuple):
    """One phase of training."""

    phase: str  # probe or joint
    loss: LossName
    negatives: Negatives
    batch_users: int
    learning_rate: float  # of all but encoders
    weight_decay: float
    encoder_learning_rate: float
    encoder_weight_decay: float
    warmup_steps: int
    epochs: int
    patience: int
    decays: int
    validate_every: int
    select: str  # hr@10 or ndcg@10
    patience_steps: int = 0  # and so many steps: a small domain's epoch has few


class Row(NamedTuple):
    """A line of the training curve."""

    epoch: int
    phase: str
    loss: float  # mean over the epoch's steps; 0 at epoch 0, before any
    hr: float  # HR@10 on validation
    ndcg: float  # NDCG@10 on validation
    learning_rate: float

    def selected(self, select: str) -> float:
        """Give the metric that chooses the best epoch."""
        return {"hr@10": self.hr, "ndcg@10": self.ndcg}[select]


class Pending(NamedTuple):
    """A step whose loss nobody has looked at yet."""

    loss: Tensor  # scalar, on the device
    step: int  # of its epoch, from 1
    rates: list[float]  # learning rates


class Fitted(NamedTuple):
    """What a phase came to; the model itself is left at its best epoch."""

    best: Row
    curve: list[Row]
    epochs: int
    capped: bool  # the cap stopped it, not its patience
    seconds: float  # all, killed and resumed parts together
    peak_memory: int  # bytes, the most of any part
    users_per_second: float  # while training, validation apart


@dataclass
class State:
    """All that a phase needs to go on, beside weights and optimizer."""

    epoch: int = 0  # epochs done
    step: int = 0  # steps done of the next
    since: int = 0  # epochs since the best
    drops: int = 0
    warm: int = 0  # steps since the optimizer began
    loss: float = 0.0  # summed over the steps of this epoch
    finite: float | None = None  # the last loss looked at
    seconds: float = 0.0
    trained_seconds: float = 0.0
    trained_users: int = 0
    peak_memory: int = 0  # bytes
    curve: list[Row] = field(default_factory=list)
    best: int = 0  # its row in the curve
    finished: bool = False
    capped: bool = False
