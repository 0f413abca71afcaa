"""What end2end measured, as Markdown."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from benchmarks import end2end_data as data
from benchmarks import measure

GOAL_USERS = 64  # of a step, as NineRec trains; goals are for these
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
ORDER = [  # of rows, by the words of their case
    "cpu", "cuda", "small", "small-cls", "base", "hm", "source", "text", "image", "both", "-", "30",
    "whole", "2", "all",
]  # fmt: skip

Row = dict[str, Any]
CASE = ["data", "content", "tokens", "encoders", "top blocks that train", "users a step of ours"]

WHAT_IS_EQUAL = """\
Both sides train the same encoders, head (Linear, GELU) and SASRec (2 post-norm blocks, 2 heads,
dropout 0.1) on the same users, at the same pixels, with fused AdamW, from tokens and pixels in
memory, in the same precision, on a CPU with large pages of memory (`THP_MEM_ALLOC_ENABLE`).
**Theirs** is NineRec's step, written from its description
(`ninerec_step.py`): 42 slots a user, padding and negatives too, each through the whole encoder, all
of a step in one pass, texts padded to 30 tokens (`whole`: to the catalogue's longest, nothing cut),
binary cross-entropy. **Ours** is the pipeline's own step, `Phase.step`, with its own loss
(`in_batch`) and with theirs (`bce`). Where the two top blocks train, ours has run what is below
them once an item and kept it, and the topmost, but for keys and values, computes the first token
alone where the vector is made of no other (`small-cls`, `base`).
Not equal: {few} of the {many} users of a step are in theirs, for memory's sake, and its optimizer's
part is spread over {many}; the last table tells how far the rest costs a user as much with more.
Theirs also gets our attention kernels and no dropout in frozen blocks. Where all layers train on
images on a CPU, ours runs items beyond 320 in passes of their own, each done twice
(`machine.micro_batch_items`)."""
DOMAINS = {
    "hm": "a week of H&M's purchases",
    "source": "generated, with the histories' and titles' lengths of Bili_2M",
}


def whole(results: Mapping[str, Mapping[str, Row]]) -> str:
    """Lay all parts out that were measured, each row with where and when."""
    parts: dict[str, Callable[[list[Row], Mapping[str, str]], str]] = {
        "steps": steps,
        "ladder": ladder,
        "epochs": epochs,
        "linearity": linearity,
    }
    known = {part: sorted(results[part].values(), key=_place) for part in parts}
    rows = [row for part in known.values() for row in part]
    marked = measure.marks(row["machine"] for row in rows)
    sections = [lay_out(known[part], marked) for part, lay_out in parts.items() if known[part]]
    where = f"### Where and when\n\n{measure.legend(marked)}"
    return "\n\n".join([_equal(rows), _trained(rows), *sections, where])


def _place(row: Row) -> list[int]:
    words = row["case"].values()
    place = [ORDER.index(word) if word in ORDER else len(ORDER) for word in words]
    return [*place, row["users"]]


def _equal(rows: list[Row]) -> str:
    few, many = (_any(row[side] for row in rows) for side in ("reference_users", "users"))
    said = {}
    for row in rows:
        name, found = row["case"]["data"], row["domain"]
        said[name] = f"- `{name}`: {DOMAINS[name]}; {found['users']:,} users learn, "
        said[name] += f"{found['items']:,} items"
    listed = "\n".join(said.values())
    return f"{WHAT_IS_EQUAL.format(few=few, many=many)}\n\n{listed}"


def _any(values: Iterable[int]) -> str:
    return " or ".join(map(str, sorted(set(values))))


def _trained(rows: list[Row]) -> str:
    lines = {}
    for row in rows:
        scale, asked = row["case"]["scale"], row["case"]["layers"]
        for modality, found in row["trained"].items():
            lines[scale, modality, asked] = [
                data.ENCODERS[scale][modality], scale, asked,
                f"{found['layers']} of {found['blocks']}",
                f"{found['weights'] / 1e6:.1f} of {found['whole'] / 1e6:.1f} M",
            ]  # fmt: skip
    head = ["encoder", "encoders", "top blocks that train", "found: blocks", "weights"]
    return measure.table(head, [*lines.values()])


def steps(rows: list[Row], marked: Mapping[str, str]) -> str:
    """Lay out a user's cost on both sides, what a step encodes, and what the prefix costs."""
    head = [
        *CASE, "loss of ours", "theirs, ms", "ours, ms", "theirs / ours", "goal",
        "with the prefix's cost", "repeats", "",
    ]  # fmt: skip
    lines = [_step(row, loss, marked) for row in rows for loss in row["ratio"]]
    counted = [
        *CASE, "slots of theirs", "of them items", "distinct items, in_batch", "bce",
        "text of padded tokens", "prefix: time", "kept", "",
    ]  # fmt: skip
    return (
        "### A training step\n\n"
        "Milliseconds a user trained, and how many times as long theirs takes: median (least-most) "
        f"over the repeats, on `hm` beside what it is meant to be with {GOAL_USERS} users a step. "
        "With the prefix's cost: a tenth of it is added to ours, as if ten epochs shared it.\n\n"
        f"{measure.table(head, lines)}\n\n"
        "What a step encodes, and the prefix of the whole catalogue (of `source` scaled to it):"
        f"\n\n{measure.table(counted, [_encoded(row, marked) for row in rows])}"
    )


def _step(row: Row, loss: str, marked: Mapping[str, str]) -> list[str]:
    named, theirs, ours = row["case"], row["seconds_a_user"]["theirs"], row["seconds_a_user"][loss]
    is_aimed = named["data"] == "hm" and row["users"] == GOAL_USERS
    goal = GOALS.get((named["device"], loss, named["layers"])) if is_aimed else None
    reached = "reached" if goal and row["ratio"][loss]["median"] >= goal else "missed"
    extra = row["prefix"]["seconds_a_user"]
    shared = measure.ratio(theirs, [own + extra for own in ours]).text(1) if extra else "-"
    return [
        *_case(row), loss, _milliseconds(theirs), _milliseconds(ours), _times(row["ratio"][loss]),
        f"{goal}: {reached}" if goal else "-", shared, str(len(ours)), _mark(row, marked),
    ]  # fmt: skip


def _encoded(row: Row, marked: Mapping[str, str]) -> list[str]:
    prefix, losses = row["prefix"], row["encoded"]
    made = losses["bce"]
    return [
        *_case(row), f"{made['slots']:,.0f}", f"{made['items_share']:.0%}",
        *(f"{losses[loss]['distinct']:,.0f}" for loss in ("in_batch", "bce")),
        f"{made['tokens_share']:.0%}" if row["case"]["texts"] != "-" else "-",
        *([f"{prefix['seconds']:,.0f} s", f"{prefix['bytes'] / 1e6:,.0f} MB"]
          if prefix["bytes"] else ["-", "-"]),
        _mark(row, marked),
    ]  # fmt: skip


def ladder(rows: list[Row], marked: Mapping[str, str]) -> str:
    """Lay out the rungs of each case: milliseconds a user, to the first rung, to the former one."""
    text = (
        "### Where the ratio comes from\n\n"
        "From theirs to ours, a change a rung, each with its optimizer's step a step of as many "
        "users:"
    )
    for row in rows:
        lines = [
            [
                name,
                _milliseconds(values),
                _times(row["to_former"][name]) if name in row["to_former"] else "",
                _times(row["to_first"][name]) if name in row["to_first"] else "",
            ]
            for name, values in row["seconds_a_user"].items()
        ]
        head = [
            f"{_title(row)} {_mark(row, marked)}", "ms a user",
            "times as fast as the rung above", "as the first",
        ]  # fmt: skip
        text += f"\n\n{measure.table(head, lines)}"
    return text


def epochs(rows: list[Row], marked: Mapping[str, str]) -> str:
    """Lay out epochs of end2end and frozen."""
    head = [
        *CASE, "frozen", "end2end", "times as long", "frozen, memory", "end2end, memory",
        "times as much", "kept on disk or GPU", "goal", "repeats", "",
    ]  # fmt: skip
    return (
        "### An epoch beside one of frozen\n\n"
        "Training, validation and checkpoint, with the pipeline's own loss; each in a process of "
        "its own, memory being the most it held. The prefix is kept before.\n\n"
        f"{measure.table(head, [_epoch(row, marked) for row in rows])}"
    )


def _epoch(row: Row, marked: Mapping[str, str]) -> list[str]:
    seconds = {run: measure.spread(row["seconds"][run]).text(1) for run in ("frozen", "end2end")}
    memory = {run: f"{max(row['memory'][run]) / 1e6:,.0f} MB" for run in ("frozen", "end2end")}
    return [
        *_case(row), f"{seconds['frozen']} s", f"{seconds['end2end']} s", _times(row["time_ratio"]),
        memory["frozen"], memory["end2end"], _times(row["memory_ratio"]),
        f"{row['cache_bytes'] / 1e6:,.0f} MB", EPOCH_GOALS.get(row["case"]["device"], "-"),
        str(len(row["seconds"]["frozen"])), _mark(row, marked),
    ]  # fmt: skip


def linearity(rows: list[Row], marked: Mapping[str, str]) -> str:
    """Lay out theirs by users a step."""
    head = [
        *CASE, "users a step of theirs", "gradients, ms a user",
        "times as long as in the tables above", "memory a user", "repeats", "",
    ]  # fmt: skip
    lines = [
        [
            *_case(row), size, _milliseconds(seconds), _times(row["to_few"][size]),
            f"{row['bytes_a_user'] / 1e6:,.0f} MB", str(len(seconds)), _mark(row, marked),
        ]
        for row in rows
        for size, seconds in row["seconds_a_user"].items()
    ]  # fmt: skip
    return (
        "### Theirs by the users of its step\n\n"
        "Above, theirs is timed on fewer users than ours; here on half of these, and on as many as "
        "ours has, or as fit into half of the memory:\n\n"
        f"{measure.table(head, lines)}"
    )


def _case(row: Row) -> list[str]:
    parts = ("data", "content", "texts", "scale", "layers", "users")
    return [row["case"][part] for part in parts]


def _title(row: Row) -> str:
    data_, content, texts, scale, layers, users = _case(row)
    tokens = "" if texts == "-" else f", {texts} tokens"
    return f"{data_}, {content}{tokens}, {scale}, top {layers}, {users} users"


def _mark(row: Row, marked: Mapping[str, str]) -> str:
    return marked[measure.described(row["machine"])]


def _milliseconds(seconds: list[float]) -> str:
    return measure.spread([1e3 * s for s in seconds]).text(1)


def _times(ratio: dict[str, Any]) -> str:
    return measure.Spread(**ratio).text(1)
