"""Quality at convergence: as many epochs as validation asks for, by one rule for all sides."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks import sequence_sides as sides
from benchmarks.sequence_sides import Side
from pipeline.data import files

EPOCHS = (1, 2, 3, 5, 8, 12, 18, 27, 40, 60, 90, 135)
PATIENCE = 2  # numbers of epochs without a better validation before the end
HEAD = ["L", "side", "epochs", "validation NDCG@10", "test NDCG@10", "test HR@10", ""]
ABOUT = f"""
At convergence: trained afresh for {", ".join(map(str, EPOCHS))} epochs on all but each user's last
two items, judged on the last but one, until {PATIENCE} in a row bring no better NDCG@10; then for
the best number of epochs on all but the last item, and tested on that. One seed.
"""


def train(
    place: Path,
    length: int,
    found: Mapping[str, Side],
    known: dict[str, Any],
    keep: Callable[[dict[str, Any]], None],
) -> None:
    """Train each side to early stopping; what is `known` is not trained again.

    Args:
        place: the data set.
        length: L.
        found: the sides.
        known: all results; each training is added.
        keep: takes them after each training.
    """
    with tempfile.TemporaryDirectory() as folder:
        shorter = sides.derive(place, Path(folder), sides.USERS, held_back=1)
        for name, side in found.items():
            own = known["converged"].setdefault(str(length), {}).setdefault(name, {})
            tried = own.setdefault("tried", {})
            for epochs in EPOCHS:
                if is_over([tried[one]["ndcg"] for one in tried]):
                    break
                if str(epochs) not in tried:
                    measure.say(f"L = {length}, {name}: {epochs} epochs for validation")
                    outcome = side.train(shorter, length, epochs)
                    if outcome.ndcg is None:
                        raise files.Stop(
                            f"{name}'s script prints no NDCG@10, which early stopping needs; give "
                            "--scripts a folder with one that does, or leave it out by --side"
                        )
                    tried[str(epochs)] = outcome._asdict()
                    keep(known)
            if "test" not in own:
                own["epochs"] = int(max(tried, key=lambda one: tried[one]["ndcg"]))
                measure.say(f"L = {length}, {name}: {own['epochs']} epochs for the test")
                own["test"] = side.train(place, length, own["epochs"])._asdict()
                own |= {"machine": measure.machine(), "version": side.version}
                keep(known)


def is_over(judged: list[float]) -> bool:
    """Tell whether the best of the values, in the order tried, lies PATIENCE values back."""
    return len(judged) - 1 - judged.index(max(judged)) >= PATIENCE if judged else False


def ended(converged: dict[str, Any]) -> list[dict[str, Any]]:
    """List what came to an end, by length."""
    order = sorted(converged, key=int)
    return [own for length in order for own in converged[length].values() if "test" in own]


def tables(converged: dict[str, Any], marked: Mapping[str, str]) -> list[str]:
    """Lay out the sides that came to an end, with where and when."""
    rows = [
        [
            length,
            f"{name} {own['version']}".strip(),
            str(own["epochs"]),
            f"{own['tried'][str(own['epochs'])]['ndcg']:.4f}",
            f"{own['test']['ndcg']:.4f}",
            f"{own['test']['hr']:.4f}",
            marked[measure.described(own["machine"])],
        ]
        for length in sorted(converged, key=int)
        for name, own in converged[length].items()
        if "test" in own
    ]
    return [ABOUT.strip(), measure.table(HEAD, rows)] if rows else []
