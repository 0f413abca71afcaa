"""What end2end measured, as Markdown."""

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import measure

# How many times as fast as theirs ours is meant to be on hm, by device, loss and what trains.
GOALS = {
    ("cpu", "in_batch", "2"): 25,
    ("cpu", "in_batch", "all"): 10,
    ("cpu", "bce", "2"): 12,
    ("cpu", "bce", "all"): 5,
    ("cuda", "in_batch", "2"): 25,
    ("cuda", "in_batch", "all"): 12,
    ("cuda", "bce", "2"): 12,
    ("cuda", "bce", "all"): 6,
}
EPOCH_GOALS = {"cuda": "3 times the time, 1.5 times the memory beside what is kept"}

Rows = Mapping[str, dict[str, Any]]  # by case, in words; each with its case's parts

WHAT_IS_EQUAL = """\
Both sides train the same encoders, head (Linear, GELU), SASRec and users, at the same pixels, with
AdamW, from tokens and pixels in memory. **Theirs** is NineRec's step (`ninerec_step.py`): 42 slots
a user, padding and negatives too, each through the whole encoder, all of a step in one pass, texts
padded to 30 tokens (`whole`: to the catalogue's longest, nothing cut), binary cross-entropy.
**Ours** is the pipeline's own step, `Phase.step`, with its own loss (`in_batch`) and with theirs
(`bce`). `2`: the two top blocks train; of ours, what is below them was run once an item and kept.
Theirs runs on some users of each step of ours, and its optimizer's part is spread over as many
users as ours has; the last list tells whether its gradients cost a user as much with fewer users.
Where all layers train on images on a CPU, ours runs items beyond 320 in passes of their own, each
done twice (`machine.micro_batch_items`)."""


def whole(results: Mapping[str, Rows]) -> str:
    """Lay all parts out that were measured."""
    parts: dict[str, Callable[[Rows], str]] = {
        "steps": steps,
        "ladder": ladder,
        "epochs": epochs,
        "linearity": linearity,
    }
    laid_out = [lay_out(results[part]) for part, lay_out in parts.items() if results.get(part)]
    return "\n\n".join([WHAT_IS_EQUAL, *laid_out])


def steps(rows: Rows) -> str:
    """Lay out a user's cost on both sides, what a step encodes, and what the prefix costs."""
    head = [
        "device", "data", "content", "tokens", "trains", "loss of ours", "theirs", "ours",
        "theirs / ours", "goal", "with the prefix's cost",
    ]  # fmt: skip
    lines = [_step(row, loss) for row in rows.values() for loss in row["ratio"]]
    counted = [
        "data", "content", "tokens", "trains", "slots of theirs", "of them items",
        "distinct items, in_batch", "bce", "text of padded tokens", "prefix: time", "kept",
    ]  # fmt: skip
    return (
        "Milliseconds a user trained, and how many times as long theirs takes: median (least-most) "
        "over the repeats. The last column adds to ours a tenth of the prefix's cost, as if ten "
        f"epochs shared it.\n\n{measure.table(head, lines)}\n\n"
        "What a step encodes, and the prefix of the whole catalogue (of `source` scaled to it):"
        f"\n\n{measure.table(counted, [_encoded(row) for row in rows.values()])}"
    )


def _step(row: dict[str, Any], loss: str) -> list[str]:
    named, theirs, ours = row["case"], row["seconds_a_user"]["theirs"], row["seconds_a_user"][loss]
    goal = GOALS.get((named["device"], loss, named["layers"])) if named["data"] == "hm" else None
    reached = "reached" if goal and row["ratio"][loss]["median"] >= goal else "missed"
    extra = row["prefix"]["seconds_a_user"]
    return [
        _device(row), named["data"], named["content"], named["texts"], named["layers"], loss,
        _milliseconds(theirs), _milliseconds(ours), _times(row["ratio"][loss]),
        f"{goal}: {reached}" if goal else "-",
        f"{measure.ratio(theirs, [own + extra for own in ours]).median:.1f}",
    ]  # fmt: skip


def _encoded(row: dict[str, Any]) -> list[str]:
    named, prefix, losses = row["case"], row["prefix"], row["encoded"]
    made = losses["bce"]
    return [
        named["data"], named["content"], named["texts"], named["layers"],
        f"{made['slots']:,.0f}", f"{made['items_share']:.0%}",
        *(f"{losses[loss]['distinct']:,.0f}" for loss in ("in_batch", "bce")),
        f"{made['tokens_share']:.0%}",
        *([f"{prefix['seconds']:,.0f} s", f"{prefix['bytes'] / 1e6:,.0f} MB"]
          if prefix["bytes"] else ["-", "-"]),
    ]  # fmt: skip


def ladder(rows: Rows) -> str:
    """Lay out the rungs of each case: milliseconds a user, to the first rung, to the former one."""
    text = "Where the ratio comes from, a change a rung (the two top blocks train):"
    for row in rows.values():
        named, seconds = row["case"], row["seconds_a_user"]
        lines = [
            [
                name,
                _milliseconds(values),
                _times(row["to_former"][name]) if name in row["to_former"] else "",
                _times(row["to_first"][name]) if name in row["to_first"] else "",
            ]
            for name, values in seconds.items()
        ]
        title = f"{named['data']}, {named['content']}, {named['texts']} tokens"
        head = [
            f"{title}; {_device(row)}",
            "ms a user",
            "faster than the rung above",
            "than the first",
        ]
        text += f"\n\n{measure.table(head, lines)}"
    return text


def epochs(rows: Rows) -> str:
    """Lay out epochs of end2end and frozen."""
    head = [
        "device", "data", "content", "tokens", "frozen", "end2end", "times as long",
        "frozen, memory", "end2end, memory", "times as much", "kept on disk or GPU", "goal",
    ]  # fmt: skip
    text = (
        "An epoch (training, validation, checkpoint) end to end, with the two top blocks training, "
        "and frozen; each in a process of its own, memory being the most it held:"
    )
    return f"{text}\n\n{measure.table(head, [_epoch(row) for row in rows.values()])}"


def _epoch(row: dict[str, Any]) -> list[str]:
    named = row["case"]
    seconds = {run: measure.spread(row["seconds"][run]).text(1) for run in ("frozen", "end2end")}
    memory = {run: f"{max(row['memory'][run]) / 1e6:,.0f} MB" for run in ("frozen", "end2end")}
    return [
        _device(row), named["data"], named["content"], named["texts"],
        f"{seconds['frozen']} s", f"{seconds['end2end']} s", _times(row["time_ratio"]),
        memory["frozen"], memory["end2end"], _times(row["memory_ratio"]),
        f"{row['cache_bytes'] / 1e6:,.0f} MB", EPOCH_GOALS.get(named["device"], "-"),
    ]  # fmt: skip


def linearity(rows: Rows) -> str:
    """Lay out theirs by users a step."""
    text = "Theirs, milliseconds of gradients a user, by users a step:"
    for row in rows.values():
        named, seconds = row["case"], row["seconds_a_user"]
        found = "; ".join(f"{size}: {_milliseconds(values)}" for size, values in seconds.items())
        what = f"{named['data']}, {named['content']}, {named['texts']} tokens"
        text += f"\n- {what}, {_device(row)}: {found}"
    return text


def _device(row: dict[str, Any]) -> str:
    return f"{row['where']}, {row['case']['scale']}"


def _milliseconds(seconds: list[float]) -> str:
    return measure.spread([1e3 * s for s in seconds]).text(1)


def _times(ratio: dict[str, Any]) -> str:
    return measure.Spread(**ratio).text(1)
