"""A training step of ours against one of theirs, on the same users in turn; a user's seconds."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import end2end_data as data
from benchmarks import end2end_sides as sides
from benchmarks import measure
from pipeline.data.sequences import PAD
from pipeline.training import batches

LOSSES = ("in_batch", "bce")
EPOCHS = 10  # over which the prefix's cost is spread


def compare(setup: sides.Setup, case: sides.Case, repeats: int) -> dict[str, Any]:
    """Time both sides on a case.

    Args:
        setup: sizes.
        case: what trains on what.
        repeats: as `measure.due` takes them.

    Returns:
        Seconds a user trained, by side and repeat, their ratios, what trained, was encoded and
        kept.
    """
    made = {loss: sides.ours(setup, case, loss) for loss in LOSSES}
    theirs = sides.reference(setup, case)
    users, times = setup.reference_users, setup.reference_steps

    def train(loss: str) -> Callable[[int], None]:
        return lambda first: made[loss].train(first, setup.steps)

    calls = {
        "gradients": sides.gradients(theirs, made["bce"].feed, users, times),
        "update": lambda _: sides.update(theirs),
        **{loss: train(loss) for loss in LOSSES},
    }
    seconds = in_turn(setup, made["bce"].feed, calls, repeats)
    per_user = {loss: [s / (setup.users * setup.steps) for s in seconds[loss]] for loss in LOSSES}
    per_user["theirs"] = together(
        seconds["gradients"], users * times, seconds["update"], setup.users
    )
    return {
        "trained": sides.trained(theirs.model.encoders),
        "seconds_a_user": per_user,
        "ratio": {loss: ratio(per_user["theirs"], per_user[loss]) for loss in LOSSES},
        "encoded": {loss: encoded(made[loss], theirs.model.tokens) for loss in LOSSES},
        "prefix": spread_prefix(case.place, sides.kept(made["bce"].work)),
    }


def together(gradients: list[float], trained: int, updates: list[float], users: int) -> list[float]:
    """Give the seconds a user of their step, repeat by repeat.

    Args:
        gradients: seconds of those of `trained` users, which cost the same for each.
        trained: so many.
        updates: seconds of the optimizer's step, one for all `users` of a step as large as ours.
        users: so many.
    """
    return [g / trained + u / users for g, u in zip(gradients, updates, strict=True)]


def in_turn(
    setup: sides.Setup,
    fed: batches.Batches,
    calls: dict[str, Callable[[int], None]],
    repeats: int,
) -> dict[str, list[float]]:
    """Time calls in turn, each on the same steps of the first epoch, after a turn that warms up.

    Args:
        setup: how many steps a call does.
        fed: whose steps.
        calls: by name; each gets the first step to do.
        repeats: as `measure.due` takes them.

    Returns:
        By name, seconds a repeat.
    """
    ends = timed(fed) - max(setup.steps, setup.reference_steps) + 1
    firsts = [*range(0, max(1, ends), setup.steps)]

    def bound(call: Callable[[int], None]) -> Callable[[], None]:
        turns = itertools.cycle(firsts)
        return lambda: call(next(turns))

    candidates = {name: bound(call) for name, call in calls.items()}
    return measure.side_by_side(candidates, repeats)


def timed(fed: batches.Batches) -> int:
    """Give how many steps of the first epoch are timed, over and over."""
    return min(data.STEPS, fed.steps)


def ratio(slow: list[float], fast: list[float]) -> dict[str, float]:
    """Divide repeat by repeat: {median, low, high, repeats}."""
    return measure.ratio(slow, fast)._asdict()


def encoded(made: sides.Ours, tokens: int) -> dict[str, float]:
    """Count what a step of ours encodes beside theirs, over the steps that are timed.

    Returns:
        Slots of theirs a step, the share of them that is an item, distinct items a step, and the
        share of a text's padded tokens that is text (1 without texts).
    """
    steps = [made.feed.batch(0, step).items.numpy() for step in range(timed(made.feed))]
    slots = sides.slots(made.feed, 0, made.feed.users)
    contents = made.work.contents
    read = 1.0
    if "text" in contents:
        read = float(np.mean([contents["text"].lengths[items].mean() for items in steps])) / tokens
    return {
        "slots": 2.0 * slots.positives.size,
        "items_share": float(np.mean([part != PAD for part in slots])),
        "distinct": float(np.mean([len(items) for items in steps])),
        "tokens_share": read,
    }


def spread_prefix(place: data.Place, kept: dict[str, float]) -> dict[str, float]:
    """Give what the prefix costs on the whole catalogue: {seconds, bytes, seconds_a_user}.

    Where a part of the catalogue was kept, its cost is scaled to the whole; a user's seconds are
    those of an epoch out of EPOCHS.
    """
    whole = place.items / kept["items"] if kept["items"] else 0.0
    seconds = kept["seconds"] * whole
    return {
        "seconds": seconds,
        "bytes": kept["bytes"] * whole,
        "seconds_a_user": seconds / (place.users * EPOCHS),
    }
