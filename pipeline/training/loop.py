"""The one `fit`: every tower, every start, both phases of end-to-end training."""

import math
import time
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from pipeline.content import device, processes
from pipeline.data import files
from pipeline.data.split import Split
from pipeline.models.items import EndToEndTower
from pipeline.models.recommender import Recommender
from pipeline.retrieval import vectors
from pipeline.training import batches, objective, schedule
from pipeline.training.checkpoint import Keeper
from pipeline.training.progress import Progress

DROP = 0.2  # of the learning rate at a plateau
SETTLE = {"cpu": 1, "cuda": 50}  # steps between two looks at their losses; a GPU is waited for


class Phase:
    """One phase's model, optimizer and state; `fit` drives it."""

    def __init__(self, model: Recommender, plan: schedule.Plan, seed: int, keeper: Keeper) -> None:
        self.model, self.plan, self.seed, self.keeper = model, plan, seed, keeper
        self.device = model.device
        self.state = schedule.State()
        self.optimizer = self.fresh_optimizer()
        self.pending: list[schedule.Pending] = []
        self.best: dict[str, Tensor] = self.learned()

    def fresh_optimizer(self) -> torch.optim.AdamW:
        """Make an optimizer that knows nothing yet: encoders in a group of their own."""
        named = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        encoder = [p for n, p in named if n.startswith("tower.encoders.")]
        rest = [p for n, p in named if not n.startswith("tower.encoders.")]
        plan = self.plan
        groups = [{"params": rest, "peak": plan.learning_rate, "weight_decay": plan.weight_decay}]
        if encoder:
            peak, decay = plan.encoder_learning_rate, plan.encoder_weight_decay
            groups.append({"params": encoder, "peak": peak, "weight_decay": decay})
        return torch.optim.AdamW(groups, fused=True)

    def learned(self) -> dict[str, Tensor]:
        """Copy the weights that learn."""
        return {n: p.detach().clone() for n, p in self.model.named_parameters() if p.requires_grad}

    def restore_best(self) -> None:
        """Put the best weights back."""
        self.model.load_state_dict(self.best, strict=False)

    def rate(self) -> float:
        """Give the factor on the peak learning rates: warm-up, constant, a fifth at each drop."""
        warm = min(1.0, (self.state.warm + 1) / max(1, self.plan.warmup_steps))
        return float(warm * DROP**self.state.drops)

    def step(self, batch: batches.Batch) -> Tensor:
        """Learn from one batch, on this device already, and return its loss, a scalar there.

        What is random follows from seed, epoch, step and process, so that no state of a generator
        needs to be kept, and any number of processes can go on.

        Raises:
            Stop: the device's memory is too small.
        """
        state = self.state
        random = np.random.SeedSequence([self.seed, state.epoch, state.step, processes.rank()])
        torch.manual_seed(int(random.generate_state(1, np.uint64)[0]))
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * self.rate()
        self.optimizer.zero_grad(set_to_none=True)
        try:
            loss = objective.loss(self.model, self.plan.loss, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            objective.sum_gradients(self.optimizer)
            self.optimizer.step()
        except (RuntimeError, MemoryError) as error:
            if not files.is_short_of_memory(error):
                raise
            raise self.too_large(len(batch.items)) from error
        state.warm += 1
        return loss.detach()

    def note(self, loss: Tensor) -> None:
        """Take a step's loss, to look at it with those of other steps."""
        self.state.step += 1
        rates = [group["lr"] for group in self.optimizer.param_groups]
        self.pending.append(schedule.Pending(loss, self.state.step, rates))
        if len(self.pending) >= SETTLE[self.device.type]:
            self.settle()

    def settle(self) -> None:
        """Look at the losses of all steps since the last look; a GPU is waited for here alone.

        Raises:
            Stop: one is not finite.
        """
        if not self.pending:
            return
        losses = processes.summed(torch.stack([pending.loss for pending in self.pending]))
        for pending, loss in zip(self.pending, losses.tolist(), strict=True):
            if not math.isfinite(loss):
                where = (self.state.epoch + 1, pending.step, pending.rates)
                raise self.diverged(f"the loss is {loss}", *where)
            self.state.loss += loss
            self.state.finite = loss
        self.pending.clear()

    def validate(self, split: Split, batch: int) -> tuple[float, float]:
        """Measure HR@10 and NDCG@10 on validation, before the first epoch or after one.

        Raises:
            Stop: weights are not finite, or too large to make vectors by.
        """
        learned = (p for p in self.model.parameters() if p.requires_grad)
        what = "weights"
        if all(bool(torch.isfinite(p).all()) for p in learned):
            try:
                return objective.validate(self.model, split, batch)
            except vectors.NotFiniteError:
                what = "vectors"
        if not self.state.epoch:
            fix = "what it starts from has diverged; train that again at a lower learning rate"
            raise files.Stop(f"{what} are not finite before {self.plan.phase} has trained: {fix}")
        rates = [group["lr"] for group in self.optimizer.param_groups]
        where = (self.state.epoch, self.state.step, rates)
        raise self.diverged(f"{what} are not finite", *where)

    def diverged(self, what: str, epoch: int, step: int, rates: list[float]) -> files.Stop:
        """Say what is not finite, where, and at which learning rate."""
        rate, *encoder = (f"{rate:g}" for rate in rates)
        beside = "".join(f" (encoder {one})" for one in encoder)
        finite = self.state.finite
        last = "" if finite is None else f", the last finite loss was {finite:.4g}"
        return files.Stop(
            f"{what} in {self.plan.phase} epoch {epoch}, step {step}, at learning rate {rate}"
            f"{beside}{last}; lower the learning rate or lengthen the warm-up, and run again (the "
            f"last checkpoint is kept in {self.keeper.file.parent})"
        )

    def too_large(self, items: int) -> files.Stop:
        """Say that memory is too small for a step, and what to try."""
        users, tower = self.plan.batch_users, self.model.tower
        of, own = processes.size(), -(-items // processes.size())
        each = f" by {of} processes, {own} by each" if of > 1 else ""
        step = f"{self.device} has too little memory for a step of {users} users, {items} items"
        if not isinstance(tower, EndToEndTower):
            return files.Stop(
                f"{step}{each}; no encoder trains, so what takes it are the users and, with bce, "
                f"gbce and bpr, their negatives: in params.yaml set training.batch_users to "
                f"{max(1, users // 2)} or lower training.negatives.number (both change results), "
                "or machine.processes to the number of your GPUs"
            )
        size = min(own, tower.micro_batch or own)
        if size == 1:
            return files.Stop(
                f"{step}{each}, 1 of them at once; in params.yaml lower training.batch_users or "
                "let fewer blocks train by end2end.trainable (both change results)"
            )
        return files.Stop(
            f"{step}{each}, {size} of them at once; set machine.micro_batch_items in params.yaml "
            f"to {max(1, size // 2)}: an encoder's work is done twice, only its dropout differs"
        )

    def judge(self, hr: float, ndcg: float, steps: int) -> None:
        """Note a validation: a better epoch is kept, a plateau drops the rate or ends the phase."""
        state, plan = self.state, self.plan
        loss = state.loss / steps if state.epoch else 0.0
        rate = plan.learning_rate * DROP**state.drops
        state.curve.append(schedule.Row(state.epoch, plan.phase, loss, hr, ndcg, rate))
        newest, best = state.curve[-1], state.curve[state.best]
        is_better = newest.selected(plan.select) > best.selected(plan.select)
        if is_better or state.epoch == 0:
            state.best, state.since = len(state.curve) - 1, 0
            self.best = self.learned()
        else:
            state.since += newest.epoch - state.curve[-2].epoch
        is_plateau = state.since >= plan.patience and state.since * steps >= plan.patience_steps
        if is_plateau and state.drops < plan.decays:
            self.drop_rate()
        elif is_plateau:
            state.finished = True
        if not state.finished and state.epoch >= plan.epochs:
            state.finished = state.capped = True

    def drop_rate(self) -> None:
        """Go back to the best weights, and on from them at a fifth of the rate."""
        self.restore_best()
        self.state.drops, self.state.since, self.state.warm = self.state.drops + 1, 0, 0
        self.optimizer = self.fresh_optimizer()

    def save(self) -> None:
        """Write a checkpoint; the first process does."""
        self.state.peak_memory = max(self.state.peak_memory, device.peak_memory(self.device))
        if processes.is_first():
            self.keeper.save(
                {
                    # Plain tuples: a reader that trusts no pickle accepts no class of ours.
                    "state": asdict(self.state) | {"curve": [tuple(r) for r in self.state.curve]},
                    "weights": self.learned(),
                    "best": self.best,
                    "optimizer": self.optimizer.state_dict(),
                }
            )

    def resume(self) -> bool:
        """Go on from a checkpoint, if there is one."""
        saved = self.keeper.load()
        processes.wait()  # nobody writes another before all have read this one
        if saved is None:
            return False
        self.state = schedule.State(**saved["state"])
        self.state.curve = [schedule.Row(*row) for row in self.state.curve]
        self.model.load_state_dict(saved["weights"], strict=False)
        self.best = {name: value.to(self.device) for name, value in saved["best"].items()}
        self.optimizer.load_state_dict(saved["optimizer"])
        return True


def fit(
    model: Recommender,
    split: Split,
    plan: schedule.Plan,
    seed: int,
    keeper: Keeper,
    validate_batch: int,
) -> schedule.Fitted:
    """Train a model on a domain, to its patience or its cap, and leave it at its best epoch.

    The start itself, epoch 0, is a candidate. Batches and dropout follow from (seed, epoch, step):
    killed and started again with the same `keeper`, the phase ends with the same weights, bit for
    bit on a CPU.

    Raises:
        Stop: the loss, weights or vectors are not finite, or the device's memory is too small.
    """
    feed = batches.of_plan(split, plan, model.users.masking, seed)
    progress = Progress(plan.phase, plan.batch_users)
    phase = Phase(model, plan, seed, keeper)
    if not phase.resume():
        began = time.monotonic()
        hr, ndcg = phase.validate(split, validate_batch)
        phase.state.seconds += time.monotonic() - began
        phase.judge(hr, ndcg, feed.steps)
        progress.say(f"epoch 0, HR@10 {hr:.4f}, NDCG@10 {ndcg:.4f} before training")
        phase.save()
    while not phase.state.finished:
        run_epoch(phase, split, feed, progress, validate_batch)
    phase.restore_best()
    end = phase.state
    best, rate = end.curve[end.best], end.trained_users / max(end.trained_seconds, 1e-9)
    return schedule.Fitted(
        best, end.curve, end.epoch, end.capped, end.seconds, end.peak_memory, rate
    )


def run_epoch(
    phase: Phase, split: Split, feed: batches.Batches, progress: Progress, validate_batch: int
) -> None:
    """Train the rest of an epoch, validate if it is time, and write a checkpoint."""
    state, plan = phase.state, phase.plan
    began = here = time.monotonic()
    first = state.step
    for batch in feed.epoch(state.epoch, first, phase.device):
        phase.note(phase.step(batch))
        state.trained_users += batch.users
        if phase.pending:
            continue
        pace = (state.step - first) / (time.monotonic() - here)
        progress.step(state.epoch + 1, state.step, feed.steps, state.loss / state.step, pace)
        if phase.keeper.due() and state.step < feed.steps:
            state.seconds += time.monotonic() - began
            state.trained_seconds += time.monotonic() - began
            began = time.monotonic()
            phase.save()
    phase.settle()
    state.trained_seconds += time.monotonic() - began
    state.epoch += 1
    if state.epoch % plan.validate_every == 0 or state.epoch >= plan.epochs:
        hr, ndcg = phase.validate(split, validate_batch)
        phase.judge(hr, ndcg, feed.steps)
        rate = state.trained_users / state.trained_seconds
        progress.say(
            f"epoch {state.epoch}, loss {state.loss / feed.steps:.4f}, HR@10 {hr:.4f}, NDCG@10 "
            f"{ndcg:.4f} (best epoch {state.curve[state.best].epoch}), {rate:,.0f} users/s"
        )
    state.step, state.loss = 0, 0.0
    state.seconds += time.monotonic() - began
    phase.save()
