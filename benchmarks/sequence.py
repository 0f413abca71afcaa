"""The user encoder: an epoch and an evaluation of SASRec beside RecTools, RePlay and RecBole.

python -m benchmarks.sequence --peers DIR        over an hour on 2 cores, most of it RecBole's
python -m benchmarks.sequence --users 500 --repeats 1     a look at it; writes nothing
python -m benchmarks.sequence --peers DIR --converge --length 20     hours; goes on where it was

DIR holds a virtual environment each, as the README beside the scripts says; what is not installed
is shown as last measured, with its own machine and date.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import measure
from benchmarks import sequence_converge as convergence
from benchmarks import sequence_sides as sides
from benchmarks.sequence_sides import OURS, PEERS, Outcome, Side, counterpart

NAME = "sequence"
Name = StrEnum("Name", {name: name for name in (*OURS.values(), *PEERS)})  # of a side
LENGTHS = (20, 50)
HEAD = [
    "L", "side", "epoch, s", "ours is faster", "evaluation, s", "ours is faster", "NDCG@10",
    "epochs", "repeats", "",
]  # fmt: skip
ABOUT = f"""
SASRec on {sides.USERS:,} users x 4,986 items, 198,489 interactions (clusters with Markov chains,
seeded): D {sides.WIDTH}, 2 blocks, 2 heads, dropout 0.2, Adam at 1e-3, full softmax,
{sides.BATCH} users a batch, float32, {sides.THREADS} threads. Each peer runs in a process and an
environment of its own. Epoch: the median of one training's epochs, data loading included; the whole
is repeated, in turn with the other sides: median (least-most).
Evaluation: all items ranked for all users, HR@10 and NDCG@10 computed; items seen before may be
retrieved, by all four. NDCG@10 after so few epochs says only that each side learns.
Each peer is compared with our side as wide as it: the feed-forward layer has 4 D in ours and
RecBole, D in ours-narrow, RecTools and RePlay; GELU in all but RecTools, which has ReLU.
Not equal: RecBole's epoch has every prefix as an example of its own, 2,048 a batch, scored at the
last position, and it holds out one more item. RecTools and RePlay compute padding, with logits.
Ours starts item vectors at unit scale, the others smaller. Ties: ours at their expected value.
"""


def main(
    peers: Annotated[Path | None, typer.Option(help="virtual environments of the peers")] = None,
    scripts: Annotated[Path, typer.Option(help="their scripts")] = Path("../shared/peers"),
    length: Annotated[list[int] | None, typer.Option(help="L; default: 20 and 50")] = None,
    side: Annotated[list[Name] | None, typer.Option(help="default: all")] = None,
    users: Annotated[int, typer.Option(help="fewer: nothing is written")] = sides.USERS,
    epochs: Annotated[int, typer.Option(help="of a training")] = 2,
    repeats: Annotated[int, typer.Option(help=measure.REPEATS)] = 0,
    converge: Annotated[bool, typer.Option(help="train to early stopping instead")] = False,
) -> None:
    """Run all sides in turn and write their times beside each other."""
    found = sides.installed(peers, scripts, [*map(str, side or Name)])
    known = load()
    keep = save if users >= sides.USERS else show
    with tempfile.TemporaryDirectory() as folder:
        place = sides.make(scripts, Path(folder) / "whole")
        if users < sides.USERS:
            place = sides.derive(place, Path(folder) / "fewer", users, held_back=0)
        for n in length or LENGTHS:
            if converge:
                convergence.train(place, n, found, known, keep)
            else:
                known["lengths"].setdefault(str(n), {}).update(
                    compare(place, n, epochs, repeats, found)
                )
                keep(known)


def load() -> dict[str, Any]:
    """Read what was measured before."""
    path = measure.FOLDER / "results" / f"{NAME}.json"
    if not path.exists():
        return {"lengths": {}, "converged": {}}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {part: found[part] for part in ("lengths", "converged")}


def save(known: dict[str, Any]) -> None:
    """Write all that is known."""
    measure.write(NAME, known, tables(known))


def show(known: dict[str, Any]) -> None:
    """Print what would be written."""
    typer.echo(tables(known))


def compare(
    place: Path, length: int, epochs: int, repeats: int, found: Mapping[str, Side]
) -> dict[str, Any]:
    """Let each side train and evaluate in turn."""
    outcomes: dict[str, list[Outcome]] = {name: [] for name in found}

    def turn(name: str) -> Callable[[], None]:
        return lambda: outcomes[name].append(found[name].train(place, length, epochs))

    measure.say(f"L = {length}: {', '.join(found)}")
    measure.side_by_side({name: turn(name) for name in found}, repeats, warm=False)
    where = measure.machine()
    return {
        name: {
            "machine": where,
            "version": found[name].version,
            "beside": [*found],
            "epochs": epochs,
            "outcomes": [outcome._asdict() for outcome in own],
        }
        for name, own in outcomes.items()
    }


def tables(known: dict[str, Any]) -> str:
    """Lay out both parts, each row with where and when."""
    lengths, converged = known["lengths"], known["converged"]
    order = sorted(lengths, key=int)
    timed = [measured for n in order for measured in lengths[n].values()]
    tested = convergence.ended(converged)
    marked = measure.marks(measured["machine"] for measured in [*timed, *tested])
    rows = [row for n in order for row in lines(n, lengths[n], marked)]
    parts = [measure.table(HEAD, rows), ABOUT.strip()] if rows else []
    notes = [note for n in order for note in older(n, lengths[n])]
    parts += [*notes, *convergence.tables(converged, marked)]
    return "\n\n".join([*parts, measure.legend(marked)])


def lines(length: str, by_side: dict[str, Any], marked: Mapping[str, str]) -> list[list[str]]:
    """Lay out one length: each side's times, and how many times faster ours is."""
    rows = []
    for name, measured in by_side.items():
        row = [length, f"{name} {measured['version']}".strip()]
        for what in ("epoch", "evaluation"):
            row.append(measure.spread(column(measured, what)).text())
            is_peer = name in PEERS and counterpart(name) in by_side
            row.append(f"{faster(name, by_side, what).text(1)} x" if is_peer else "")
        is_told = all(outcome["ndcg"] is not None for outcome in measured["outcomes"])
        quality = measure.spread(column(measured, "ndcg")).text(4) if is_told else "not given"
        counts = [str(measured["epochs"]), str(len(measured["outcomes"]))]
        rows.append([*row, quality, *counts, marked[measure.described(measured["machine"])]])
    return rows


def column(measured: dict[str, Any], what: str) -> list[float]:
    """Take one number of each repeat."""
    return [outcome[what] for outcome in measured["outcomes"]]


def faster(name: str, by_side: dict[str, Any], what: str) -> measure.Spread:
    """Say how many times faster ours is: by repeats if both ran in turn, or by our median."""
    theirs, ours = (column(by_side[one], what) for one in (name, counterpart(name)))
    if not are_together(by_side, name):
        ours = [measure.spread(ours).median] * len(theirs)
    return measure.ratio(theirs, ours)


def are_together(by_side: dict[str, Any], name: str) -> bool:
    """Tell whether a peer ran in turn with our side that it is compared with."""
    peer, own = by_side[name], by_side[counterpart(name)]
    is_one_run = peer["machine"] == own["machine"]
    return is_one_run and counterpart(name) in peer["beside"] and name in own["beside"]


def older(length: str, by_side: dict[str, Any]) -> list[str]:
    """Say which peers were not measured with ours."""
    return [
        f"L {length}: {name} did not run beside ours; its times are of "
        f"{measured['machine']['date']}, and the ratios are to the median of ours."
        for name, measured in by_side.items()
        if name in PEERS and counterpart(name) in by_side and not are_together(by_side, name)
    ]


if __name__ == "__main__":
    typer.run(main)
