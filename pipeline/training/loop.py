"""The one `fit`: every tower, every start, both phases of end-to-end training."""

import math
import time
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.content import device
from pipeline.data import files
from pipeline.data.split import Split
from pipeline.models.recommender import Recommender
from pipeline.retrieval import metrics, search
from pipeline.training import batches, losses
from pipeline.training.checkpoint import Keeper
from pipeline.training.progress import Progress

DROP = 0.2  # of the learning rate at a plateau


class Plan(NamedTuple):
    """One phase of training."""

    phase: str  # probe or joint
    loss: batches.LossName
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
    """All that a phase needs to go on, beside weights, optimizer and random state."""

    epoch: int = 0  # epochs done
    step: int = 0  # steps done of the next
    since: int = 0  # epochs since the best
    drops: int = 0
    warm: int = 0  # steps since the optimizer began
    loss: float = 0.0  # summed over the steps of this epoch
    seconds: float = 0.0
    trained_seconds: float = 0.0
    trained_users: int = 0
    peak_memory: int = 0  # bytes
    curve: list[Row] = field(default_factory=list)
    best: int = 0  # its row in the curve
    finished: bool = False
    capped: bool = False


def validate(model: Recommender, split: Split, batch: int) -> tuple[float, float]:
    """Measure HR@10 and NDCG@10 on validation, with the search that judges the test."""
    K = metrics.CUTOFF
    items = model.item_vectors(split.candidates, batch)  # histories hold no others
    queries = model.queries(split.valid.histories, items)
    ranks = search.rank(queries, items, split.valid, split.candidates, K)
    return float(metrics.hit(ranks, K).mean()), float(metrics.ndcg(ranks, K).mean())


class Phase:
    """One phase's model, optimizer and state; `fit` drives it."""

    def __init__(self, model: Recommender, plan: Plan, keeper: Keeper) -> None:
        self.model, self.plan, self.keeper = model, plan, keeper
        self.device = next(model.users.parameters()).device
        self.state = State()
        self.optimizer = self.fresh_optimizer()
        self.best: dict[str, Tensor] = self.learned()

    def fresh_optimizer(self) -> torch.optim.AdamW:
        """Make an optimizer that knows nothing yet: encoders in a group of their own."""
        named = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        encoder = [p for n, p in named if n.startswith("tower.encoders.")]
        rest = [p for n, p in named if not n.startswith("tower.encoders.")]
        plan = self.plan
        groups = [{"params": rest, "peak": plan.learning_rate, "weight_decay": plan.weight_decay}]
        if encoder:
            decay = plan.encoder_weight_decay
            peak = plan.encoder_learning_rate
            groups.append({"params": encoder, "peak": peak, "weight_decay": decay})
        return torch.optim.AdamW(groups)

    def learned(self) -> dict[str, Tensor]:
        """Copy the weights that learn."""
        named = self.model.named_parameters()
        return {n: p.detach().clone() for n, p in named if p.requires_grad}

    def restore_best(self) -> None:
        """Put the best weights back."""
        self.model.load_state_dict(self.best, strict=False)

    def rate(self) -> float:
        """Give the factor on the peak learning rates: warm-up, constant, a fifth at each drop."""
        warm = min(1.0, (self.state.warm + 1) / max(1, self.plan.warmup_steps))
        return float(warm * DROP**self.state.drops)

    def step(self, batch: batches.Batch) -> float:
        """Learn from one batch and return its loss.

        Raises:
            Stop: the loss is not finite.
        """
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * self.rate()
        batch = batch.to(self.device)
        with device.autocast(self.device):
            made = self.model.tower(batch.items)
            # What many slots read is summed over them: that needs float32.
            vectors = made.to(torch.promote_types(made.dtype, torch.float32))
            queries = self.model.slots(vectors, batch.inputs, batch.lengths).to(vectors.dtype)
        loss = losses.LOSSES[self.plan.loss](queries, vectors, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        value = loss.item()  # a GPU is waited for, so not before it has all its work
        if not math.isfinite(value):
            raise self.diverged(f"the loss is {value}", self.state.epoch + 1, self.state.step + 1)
        self.optimizer.step()
        self.state.warm += 1
        return value

    def check(self) -> None:
        """Stop where an epoch's last step left weights that are not finite.

        Raises:
            Stop: there are such weights.
        """
        learned = (p for p in self.model.parameters() if p.requires_grad)
        if not all(bool(torch.isfinite(p).all()) for p in learned):
            raise self.diverged("weights are not finite", self.state.epoch, self.state.step)

    def diverged(self, what: str, epoch: int, step: int) -> files.Stop:
        """Say what is not finite, where, and at which learning rate."""
        rate, *encoder = (f"{group['lr']:g}" for group in self.optimizer.param_groups)
        beside = "".join(f" (encoder {one})" for one in encoder)
        return files.Stop(
            f"{what} in {self.plan.phase} epoch {epoch}, step {step}, at learning rate {rate}"
            f"{beside}; lower the learning rate or lengthen the warm-up, and run again"
        )

    def judge(self, hr: float, ndcg: float, steps: int) -> None:
        """Note a validation: a better epoch is kept, a plateau drops the rate or ends the phase."""
        state, plan = self.state, self.plan
        loss = state.loss / steps if state.epoch else 0.0
        rate = plan.learning_rate * DROP**state.drops
        state.curve.append(Row(state.epoch, plan.phase, loss, hr, ndcg, rate))
        newest, best = state.curve[-1], state.curve[state.best]
        if state.epoch == 0 or newest.selected(plan.select) > best.selected(plan.select):
            state.best, state.since = len(state.curve) - 1, 0
            self.best = self.learned()
        else:
            state.since += newest.epoch - state.curve[-2].epoch
        if state.since >= plan.patience and state.since * steps >= plan.patience_steps:
            if state.drops < plan.decays:
                self.restore_best()
                state.drops, state.since, state.warm = state.drops + 1, 0, 0
                self.optimizer = self.fresh_optimizer()
            else:
                state.finished = True
        if state.epoch >= plan.epochs and not state.finished:
            state.finished = state.capped = True

    def save(self) -> None:
        """Write a checkpoint."""
        self.state.peak_memory = max(self.state.peak_memory, device.peak_memory(self.device))
        is_gpu = self.device.type == "cuda"
        self.keeper.save(
            {
                # Plain tuples: a reader that trusts no pickle accepts no class of ours.
                "state": asdict(self.state) | {"curve": [tuple(row) for row in self.state.curve]},
                "weights": self.learned(),
                "best": self.best,
                "optimizer": self.optimizer.state_dict(),
                "random": torch.get_rng_state(),
                "random_cuda": torch.cuda.get_rng_state(self.device) if is_gpu else None,
            }
        )

    def resume(self) -> bool:
        """Go on from a checkpoint, if there is one."""
        saved = self.keeper.load()
        if saved is None:
            return False
        self.state = State(**saved["state"])
        self.state.curve = [Row(*row) for row in self.state.curve]
        self.model.load_state_dict(saved["weights"], strict=False)
        self.best = {name: value.to(self.device) for name, value in saved["best"].items()}
        self.optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["random"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(saved["random_cuda"], self.device)
        return True


def fit(
    model: Recommender, split: Split, plan: Plan, seed: int, keeper: Keeper, validate_batch: int
) -> Fitted:
    """Train a model on a domain, to its patience or its cap, and leave it at its best epoch.

    The start itself, epoch 0, is a candidate. Batches follow from (seed, epoch, step), dropout
    from torch's generator, seeded here and kept in checkpoints: killed and started again with the
    same `keeper`, the phase ends with the same weights, bit for bit on a CPU.

    Raises:
        Stop: the loss is not finite.
    """
    feed = batches.Batches(split.train, split.candidates, plan.batch_users, plan.loss, seed)
    progress = Progress(plan.phase, plan.batch_users)
    phase = Phase(model, plan, keeper)
    if not phase.resume():
        torch.manual_seed(seed)
        began = time.monotonic()
        hr, ndcg = validate(model, split, validate_batch)
        phase.state.seconds += time.monotonic() - began
        phase.judge(hr, ndcg, feed.steps)
        progress.say(f"epoch 0, HR@10 {hr:.4f}, NDCG@10 {ndcg:.4f} before training")
        phase.save()
    while not phase.state.finished:
        run_epoch(phase, split, feed, progress, validate_batch)
    phase.restore_best()
    end = phase.state
    best, rate = end.curve[end.best], end.trained_users / max(end.trained_seconds, 1e-9)
    return Fitted(best, end.curve, end.epoch, end.capped, end.seconds, end.peak_memory, rate)


def run_epoch(
    phase: Phase, split: Split, feed: batches.Batches, progress: Progress, validate_batch: int
) -> None:
    """Train the rest of an epoch, validate if it is time, and write a checkpoint."""
    state, plan = phase.state, phase.plan
    began = time.monotonic()
    first = state.step
    while state.step < feed.steps:
        batch = feed.batch(state.epoch, state.step)
        state.loss += phase.step(batch)
        state.step += 1
        state.trained_users += len(batch.lengths)
        pace = (state.step - first) / (time.monotonic() - began)
        progress.step(state.epoch + 1, state.step, feed.steps, state.loss / state.step, pace)
        if phase.keeper.due() and state.step < feed.steps:
            state.seconds += time.monotonic() - began
            state.trained_seconds += time.monotonic() - began
            began, first = time.monotonic(), state.step
            phase.save()
    state.trained_seconds += time.monotonic() - began
    state.epoch += 1
    if state.epoch % plan.validate_every == 0 or state.epoch >= plan.epochs:
        phase.check()
        hr, ndcg = validate(phase.model, split, validate_batch)
        phase.judge(hr, ndcg, feed.steps)
        rate = state.trained_users / state.trained_seconds
        progress.say(
            f"epoch {state.epoch}, loss {state.loss / feed.steps:.4f}, HR@10 {hr:.4f}, NDCG@10 "
            f"{ndcg:.4f} (best epoch {state.curve[state.best].epoch}), {rate:,.0f} users/s"
        )
    state.step, state.loss = 0, 0.0
    state.seconds += time.monotonic() - began
    phase.save()
