"""Whether NineRec's step costs a user as much whatever the number of its users."""

from typing import Any

import torch

from benchmarks import end2end_sides as sides
from benchmarks import end2end_steps as steps
from benchmarks import measure, ninerec_step

ROOM = 0.5  # of the memory, for what a step keeps for its gradient


def compare(setup: sides.Setup, case: sides.Case, repeats: int) -> dict[str, Any]:
    """Time theirs on half of its users, on them, and on as many as ours has or as memory allows.

    Args:
        setup: sizes.
        case: what trains on what.
        repeats: as `measure.due` takes them.

    Returns:
        What trains; by number of users, seconds of gradients a user and repeat, and their ratio to
        those with the users that all other parts time; bytes that a user's activations take.
    """
    theirs = sides.reference(setup, case)
    fed = sides.feed(setup, sides.work(setup, case, "bce"))
    few = setup.reference_users
    a_user = activations(theirs, sides.slots(fed, 0, few)) / few
    sizes = numbers(few, setup.users, int(ROOM * memory(theirs.where) / a_user))
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


def activations(step: ninerec_step.Step, slots: ninerec_step.Slots) -> int:
    """Count the bytes that a step keeps for its gradient, weights apart."""
    weights = {p.untyped_storage().data_ptr() for p in step.model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        step.gradients(slots)
    return sum(size for place, size in kept.items() if place not in weights)


def memory(where: torch.device) -> int:
    """Give the memory of a device, bytes."""
    if where.type == "cuda":
        return torch.cuda.get_device_properties(where).total_memory
    return measure.memory()
