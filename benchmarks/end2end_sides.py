"""The two sides: our training step as a run builds it, and NineRec's over the same parts."""

import copy
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from benchmarks import end2end_data as data
from benchmarks import ninerec_step
from pipeline.content import prefix
from pipeline.content.blocks import Encoder
from pipeline.data import kinds, sequences
from pipeline.machine import PrefixCache
from pipeline.models.items import EndToEndTower
from pipeline.models.recommender import Recommender
from pipeline.models.sasrec import Sasrec
from pipeline.training import batches, loop, runs
from pipeline.training.checkpoint import Keeper
from pipeline.training.inputs import Inputs
from pipeline.training.settings import IdRun

Layers = int | Literal["all"]
CPU_IMAGES = 320  # whose activations a CPU holds at once where all layers train; some 8 GB


class Setup(NamedTuple):
    """What holds for a whole run of the benchmark."""

    folder: Path  # of this run alone
    scale: str  # of data.SCALES
    device: str  # cpu or cuda
    users: int  # a step of ours
    steps: int  # of ours a repeat
    reference_users: int  # a step of theirs, the first of the same users
    reference_steps: int  # of theirs a repeat


class Case(NamedTuple):
    """What is trained on what."""

    place: data.Place
    content: str  # text, image or both
    layers: Layers  # that train of each encoder
    texts: str  # tokens that texts are cut to, or `whole`


class Ours(NamedTuple):
    """A phase of training, and the batches it trains on."""

    work: runs.Work
    phase: loop.Phase
    feed: batches.Batches

    @property
    def encoders(self) -> nn.ModuleDict:
        """The encoders that train."""
        tower = self.phase.model.tower
        assert isinstance(tower, EndToEndTower)
        return tower.encoders

    def train(self, first: int, steps: int) -> None:
        """Do some steps of the first epoch as an epoch does them, and wait for the device."""
        made = self.feed.epoch(0, first, self.phase.device)
        for batch in itertools.islice(made, steps):
            self.phase.note(self.phase.step(batch))
        self.phase.settle()
        wait(self.phase.device)


def settings(
    setup: Setup, case: Case, loss: str, cache: PrefixCache, run: str = "end2end"
) -> IdRun:
    """Take the preset's settings of a run, with NineRec's head and SASRec."""
    s: dict[str, Any] = copy.deepcopy(data.PRESET)
    s["protocol"]["catalogue"] = case.place.catalogue
    s["model"]["width"] = data.SCALES[setup.scale].width
    s["tower"] |= {"head": s["tower"]["paper_head"], "modality_dropout": 0.0}
    s["user_encoders"]["sasrec"] |= {"norm": "post", "activation": "relu", "dropout": 0.1}
    s["training"] |= {"loss": loss, "batch_users": setup.users}
    s["end2end"]["trainable"] = {"layers": case.layers}
    is_large = setup.device == "cpu" and case.layers == "all" and case.content != "text"
    micro_batch = CPU_IMAGES if is_large else 0
    s["machine"] |= {
        "device": setup.device,
        "prefix_cache": cache,
        "micro_batch_items": micro_batch,
    }
    return runs.SETTINGS[kinds.RUNS[run].vectors].model_validate(s)


def work(
    setup: Setup, case: Case, loss: str, cache: PrefixCache = "auto", run: str = "end2end"
) -> runs.Work:
    """Open a run on a domain as a stage does."""
    place = case.place.folder
    inputs = Inputs(
        prepared=place / "prepared",
        embeddings=place / f"embeddings-{case.content}",
        encoders=setup.folder / "encoders" / case.texts,
        covers=place / "covers",
    )
    name = runs.Name(run, case.place.name, case.content, "sasrec")
    return runs.Work(name, inputs, settings(setup, case, loss, cache, run))


def ours(setup: Setup, case: Case, loss: str, cache: PrefixCache = "auto") -> Ours:
    """Build the joint phase of an end2end run, its prefix kept, just before its first step."""
    made = work(setup, case, loss, cache)
    model = made.join(made.start(data.SEED), made.unfrozen(data.SEED), setup.folder / "kept")
    return begin(setup, made, model, joint=True)


def frozen(setup: Setup, case: Case, loss: str) -> Ours:
    """Build the phase of a frozen run just before its first step."""
    made = work(setup, case, loss, run="frozen")
    return begin(setup, made, made.start(data.SEED), joint=False)


def begin(setup: Setup, made: runs.Work, model: Recommender, joint: bool) -> Ours:
    """Begin a phase; no checkpoint falls due in it."""
    plan = made.plan(made.points()[0], joint)
    phase = loop.Phase(model, plan, data.SEED, Keeper(setup.folder / "checkpoint", math.inf))
    return Ours(made, phase, feed(made))


def feed(made: runs.Work) -> batches.Batches:
    """Make the batches of a run, the same in each of its phases."""
    plan = made.plan(made.points()[0], joint=False)
    return batches.of_plan(made.split, plan, None, data.SEED)


def reference(
    setup: Setup, case: Case, kind: type[ninerec_step.Model] = ninerec_step.Model
) -> ninerec_step.Step:
    """Build NineRec's step from the parts of ours: the same weights at the same start."""
    made = work(setup, case, "bce", cache="off")
    model = made.join(made.start(data.SEED), made.unfrozen(data.SEED), setup.folder / "kept")
    tower, sasrec = model.tower, model.users
    assert isinstance(tower, EndToEndTower)
    assert isinstance(sasrec, Sasrec)
    tokens = 0
    if "text" in tower.contents:
        longest = int(tower.contents["text"].lengths.max())
        tokens = longest if case.texts == "whole" else int(case.texts)
    joined = kind(tower.encoders, tower.contents, tokens, tower.head, sasrec)
    return ninerec_step.Step(joined, made.device)


def update(step: ninerec_step.Step) -> None:
    """Apply the gradients of one of their steps, whose cost does not grow with its users."""
    step.update()
    wait(step.where)


def gradients(
    step: ninerec_step.Step, fed: batches.Batches, users: int, times: int
) -> Callable[[int], None]:
    """Give what computes the gradients of some of their steps, from one of ours on.

    Args:
        step: theirs.
        fed: the batches of ours, whose first users theirs are.
        users: of each of their steps.
        times: how many steps.
    """

    def call(first: int) -> None:
        for number in range(first, first + times):
            step.gradients(slots(fed, number, users))
        wait(step.where)

    return call


def slots(fed: batches.Batches, step: int, users: int) -> ninerec_step.Slots:
    """Lay out the first users of a step of ours, with the negatives that `bce` draws there."""
    order = fed.order(0)[step * fed.users : (step + 1) * fed.users]
    windows = sequences.take(fed.train, order)
    owners = np.repeat(np.arange(len(order)), sequences.lengths(windows) - 1)
    drawn = fed.sampler.of_slots(windows, owners, np.random.default_rng([fed.seed, 0, step + 1]))
    longest = data.PRESET["protocol"]["window"] - 2
    laid_out = ninerec_step.lay_out(windows, drawn[:, 0], longest)
    return ninerec_step.Slots(laid_out.positives[:users], laid_out.negatives[:users])


def trained(found: nn.ModuleDict) -> dict[str, dict[str, int]]:
    """Say what trains of the encoders of a model, as found in them.

    Returns:
        By modality: `layers`, the blocks in which a weight trains, of `blocks`, and the `weights`
        that train, of `whole`.
    """
    said = {}
    for modality, encoder in found.items():
        assert isinstance(encoder, Encoder)
        blocks = [[p.requires_grad for p in block.parameters()] for block in encoder.blocks()]
        said[modality] = {
            "layers": sum(map(any, blocks)),
            "blocks": len(blocks),
            "weights": sum(p.numel() for p in encoder.parameters() if p.requires_grad),
            "whole": sum(p.numel() for p in encoder.parameters()),
        }
    return said


def kept(made: runs.Work) -> dict[str, float]:
    """Say what keeping the prefix took: seconds, bytes and items, of the items at hand."""
    found = [c for c in made.contents.values() if isinstance(c, prefix.Kept)]
    return {
        "seconds": sum(one.seconds for one in found),
        "bytes": sum(one.bytes for one in found),
        "items": max((int(np.sum(one.present)) for one in found), default=0),
    }


def wait(where: torch.device) -> None:
    """Wait until a GPU has done what it was told."""
    if where.type == "cuda":
        torch.cuda.synchronize(where)
