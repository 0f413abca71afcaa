"""Where the ratio comes from: from NineRec's step to ours, one change a rung, all in turn."""

import itertools
from collections.abc import Callable
from typing import Any

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


def climb(setup: sides.Setup, case: sides.Case, repeats: int) -> dict[str, Any]:
    """Time every rung on a case.

    Returns:
        By rung, seconds a user and repeat; by rung but the first, the ratio of the first to it, and
        of the one before to it.
    """
    few = (setup.reference_users, setup.reference_steps)
    whole = (setup.users, 1)
    rungs = {
        "NineRec's step": theirs(setup, case, ninerec_step.Model, *few),
        f"... in passes of {CHUNK} slots": theirs(setup, case, InPasses, *few),
        "... distinct items, no padding slots": theirs(setup, case, Distinct, *whole),
        "... at their true length": ours(setup, case, "bce", "off"),
        "... frozen prefix kept: ours, bce": ours(setup, case, "bce", "auto"),
        "... no negatives to encode: ours, in_batch": ours(setup, case, "in_batch", "auto"),
    }
    calls = {name: call for name, (call, _) in rungs.items()}
    fed = sides.feed(setup, sides.work(setup, case, "bce"))
    seconds = steps.in_turn(setup, fed, calls, repeats)
    per_user = {name: [s / rungs[name][1] for s in seconds[name]] for name in rungs}
    names = [*rungs]
    return {
        "seconds_a_user": per_user,
        "to_first": {name: steps.ratio(per_user[names[0]], per_user[name]) for name in names[1:]},
        "to_former": {
            name: steps.ratio(per_user[former], per_user[name])
            for former, name in itertools.pairwise(names)
        },
    }


def theirs(
    setup: sides.Setup, case: sides.Case, kind: type[ninerec_step.Model], users: int, times: int
) -> tuple[Callable[[int], None], int]:
    """Give a rung in NineRec's manner: steps of some users, and the users a call trains."""
    step = sides.reference(setup, case, kind)
    fed = sides.feed(setup, sides.work(setup, case, "bce"))
    gradients = sides.gradients(step, fed, users, times)

    def call(first: int) -> None:
        gradients(first)
        if users == setup.users:  # else an update would be charged to too few
            step.update()
        sides.wait(step.where)

    return call, users * times


def ours(
    setup: sides.Setup, case: sides.Case, loss: str, cache: PrefixCache
) -> tuple[Callable[[int], None], int]:
    """Give a rung of our trainer: steps of all users, and the users a call trains."""
    made = sides.ours(setup, case, loss, cache)
    return (lambda first: made.train(first, setup.steps)), setup.users * setup.steps
