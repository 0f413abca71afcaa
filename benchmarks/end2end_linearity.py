"""Whether NineRec's step costs a user as much whatever the number of its users."""

from typing import Any

from benchmarks import end2end_memory as memory
from benchmarks import end2end_sides as sides
from benchmarks import end2end_steps as steps

ROOM = 0.5  # of the memory, for a step of theirs


def compare(setup: sides.Setup, case: sides.Case, repeats: int) -> dict[str, Any]:
    """Time theirs on half of its users, on them, and on as many as ours has or as memory allows.

    Args:
        setup: sizes.
        case: what trains on what.
        repeats: as `measure.due` takes them.

    Returns:
        What trains; by number of users, seconds of gradients a user and repeat, and their ratio to
        those with the users that all other parts time; bytes that each user takes.
    """
    theirs = sides.reference(setup, case)
    fed = sides.feed(sides.work(setup, case, "bce"))
    few = setup.reference_users
    a_user = memory.apart(needed, setup, case)
    sizes = numbers(few, setup.users, int(ROOM * memory.whole(theirs.where) / a_user))
    calls = {str(n): sides.gradients(theirs, fed, n, 1) for n in sizes}
    seconds = steps.in_turn(setup, fed, calls, repeats)
    per_user = {n: [s / int(n) for s in found] for n, found in seconds.items()}
    return {
        "trained": sides.trained(theirs.model.encoders),
        "seconds_a_user": per_user,
        "to_few": {n: steps.ratio(found, per_user[str(few)]) for n, found in per_user.items()},
        "bytes_a_user": a_user,
    }


def numbers(few: int, wanted: int, fit: int) -> list[int]:
    """Choose numbers of users: half of a few, these, and those wanted or as many as fit."""
    return sorted({max(1, few // 2), few, max(few, min(wanted, fit))})


def needed(setup: sides.Setup, case: sides.Case) -> float:
    """Measure the bytes a user that a step of theirs takes, in this process, which has done none.

    Beside what is kept for the gradient, a pass of all slots holds the largest layers of all.
    """
    step = sides.reference(setup, case)
    fed = sides.feed(sides.work(setup, case, "bce"))
    before = memory.held(step.where)
    step.gradients(sides.slots(fed, 0, setup.reference_users))
    return (memory.peak(step.where) - before) / setup.reference_users
