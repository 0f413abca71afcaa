"""Where the ratio comes from: from NineRec's step to ours, one change a rung, all in turn."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import end2end_sides as sides
from benchmarks import end2end_steps as steps
from benchmarks import ninerec_step
from pipeline.content import device
from pipeline.content.blocks import CHUNK
from pipeline.data.sequences import PAD
from pipeline.machine import PrefixCache

UPDATE = "update"  # beside the rungs: the optimizer's step, the same for all rungs of theirs


class InPasses(ninerec_step.Model):
    """Theirs, but so many slots a pass as our encoders take on a CPU; a GPU takes all at once."""

    def item_vectors(self, items: np.ndarray) -> Tensor:
        """Encode items [n], which may be PAD: [n, D]."""
        if next(self.head.parameters()).device.type != "cpu":
            return super().item_vectors(items)
        parts = np.split(items, range(CHUNK, len(items), CHUNK))
        return torch.cat([super(InPasses, self).item_vectors(part) for part in parts])


class Distinct(InPasses):
    """And each item of a step once, padding never; texts are still padded to one length."""

    def slot_vectors(self, items: np.ndarray) -> Tensor:
        """Encode what stands in each slot [..., S]: [..., S, D], 0 for padding."""
        distinct, places = np.unique(items, return_inverse=True)
        assert distinct[0] == PAD, "a row's first slot has no negative"
        vectors = F.pad(self.item_vectors(distinct[1:]), (0, 0, 1, 0))
        where = device.move(torch.from_numpy(places.ravel()), vectors.device)
        return F.embedding(where, vectors).view(*items.shape, -1)


class Rung(NamedTuple):
    """One way to do a step."""

    call: Callable[[int], None]  # takes the first of its steps
    users: int  # that a call trains
    updates: bool  # whether the optimizer's step is in it; else it is timed apart and added


def climb(setup: sides.Setup, case: sides.Case, repeats: int) -> dict[str, Any]:
    """Time every rung on a case, each with its optimizer's step.

    Args:
        setup: sizes.
        case: what trains on what.
        repeats: as `measure.due` takes them.

    Returns:
        What trains; by rung, seconds a user and repeat; by rung but the first, the ratio of the
        first to it, and of the one before to it.
    """
    first = sides.reference(setup, case)
    fed = sides.feed(sides.work(setup, case, "bce"))
    few = (setup.reference_users, setup.reference_steps)

    def theirs(step: ninerec_step.Step, users: int, times: int) -> Rung:
        return Rung(sides.gradients(step, fed, users, times), users * times, updates=False)

    in_passes = sides.reference(setup, case, InPasses)
    distinct = sides.reference(setup, case, Distinct)
    rungs = {
        "NineRec's step": theirs(first, *few),
        f"... in passes of {CHUNK} slots": theirs(in_passes, *few),
        "... distinct items, no padding slots": theirs(distinct, setup.users, 1),
        "... by our trainer, texts at their true length": ours(setup, case, "bce", "off"),
        "... frozen prefix kept: ours, bce": ours(setup, case, "bce", "auto"),
        "... no negatives to encode: ours, in_batch": ours(setup, case, "in_batch", "auto"),
    }
    calls = {name: rung.call for name, rung in rungs.items()}
    seconds = steps.in_turn(setup, fed, calls | {UPDATE: lambda _: sides.update(first)}, repeats)
    per_user = {
        name: [s / rung.users for s in seconds[name]]
        if rung.updates
        else steps.together(seconds[name], rung.users, seconds[UPDATE], setup.users)
        for name, rung in rungs.items()
    }
    names = [*rungs]
    return {
        "trained": sides.trained(first.model.encoders),
        "seconds_a_user": per_user,
        "to_first": {name: steps.ratio(per_user[names[0]], per_user[name]) for name in names[1:]},
        "to_former": {
            name: steps.ratio(per_user[former], per_user[name])
            for former, name in itertools.pairwise(names)
        },
    }


def ours(setup: sides.Setup, case: sides.Case, loss: str, cache: PrefixCache) -> Rung:
    """Give a rung of our trainer: steps of all users."""
    made = sides.ours(setup, case, loss, cache)

    def call(first: int) -> None:
        made.train(first, setup.steps)

    return Rung(call, setup.users * setup.steps, updates=True)
