"""The data card: what a prepared domain holds, and what was left out on the way to it."""

import html
import re
from typing import Any

import numpy as np

from pipeline.data import sequences, split
from pipeline.data.prepare import Counts
from pipeline.data.raw import Raw
from pipeline.data.tables import Prepared

MANY_REPEATED = 0.05  # of test items: so many make the results of all runs too low
QUANTILES = {"min": 0.0, "quarter": 0.25, "median": 0.5, "three_quarters": 0.75, "max": 1.0}


def card(
    domain: str, raw: Raw, prepared: Prepared, counts: Counts, protocol: split.Protocol
) -> dict[str, Any]:
    """Describe a domain; counts are numbers of rows, shares lie in [0, 1].

    Items without history are those in nobody's train part; a held-out item is cold if it is one
    of them, and repeated if its user's window has it before.
    """
    items, histories = prepared.items, prepared.sequences
    users, interactions = len(prepared.users), len(histories.items)
    by_window = protocol.model_copy(update={"mask": "window"})
    parts = split.split(histories, len(items), by_window)
    twice = len(parts.train.offsets) - 1 - users  # pieces share an item
    seen = np.zeros(len(items) + 1, bool)
    seen[parts.train.items] = True
    long = sequences.lengths(histories)
    drawn = {"users": users, "of": counts.drawn_from}
    return {
        "domain": domain,
        "source": raw.source.name,
        "columns": raw.columns,
        "users": users,
        "items": len(items),
        "candidates": int(parts.candidates.sum()),
        "interactions": interactions,
        "share_learned": (len(parts.train.items) - twice) / interactions,
        "sparsity": 1 - interactions / (users * len(items)),
        "lengths": {name: float(np.quantile(long, q)) for name, q in QUANTILES.items()}
        | {"mean": float(long.mean())},
        "time": None
        if counts.times is None
        else dict(zip(("first", "last"), counts.times, strict=True)),
        "share_without": {
            "text": items["text"].null_count() / len(items),
            "history": 1 - int(seen.sum()) / len(items),
        },
        "held_out": {
            name: {
                "repeated": int(repeated(part).sum()),
                "cold": int((~seen[part.items]).sum()),
            }
            for name, part in (("valid", parts.valid), ("test", parts.test))
        },
        "read": counts.read,
        "duplicates": counts.duplicates,
        "dropped": {
            "unknown_item": counts.unknown,
            "short_users": counts.short_users,
            "short_interactions": counts.short_interactions,
            "duplicates": counts.dropped,
        },
        **({} if counts.drawn_from is None else {"sampled": drawn}),
        "warnings": [*raw.warnings, *_doubts(counts, parts.test, protocol)],
    }


def _doubts(counts: Counts, test: split.HeldOut, protocol: split.Protocol) -> list[str]:
    """Warn where many test items are masked, so that no recommender can find them."""
    number, users = int(repeated(test).sum()), len(test.items)
    if protocol.mask == "none" or number <= MANY_REPEATED * users:
        return []
    double = counts.duplicates - counts.dropped
    mend = f"prepare.duplicates: drop leaves out {double:,} rows that stand there twice; " * (
        double > 0
    )
    return [
        f"{number:,} of {users:,} test items are among what is masked for their user, and count as "
        f"a miss; {mend}where users come back to the same items, protocol.mask: none lets them be "
        "found"
    ]


def repeated(part: split.HeldOut) -> np.ndarray:
    """Tell whose held-out item is among the masked ones, so that it can't be found: [U] bool."""
    again = part.masked.items == np.repeat(part.items, sequences.lengths(part.masked))
    found = np.zeros(len(part.items), bool)
    found[sequences.owners(part.masked)[again]] = True
    return found


def markdown(card: dict[str, Any]) -> str:
    """Write a card as a Markdown table, one row a number; names from the data are escaped."""
    rows = [f"| {escape(name)} | {_shown(name, value)} |" for name, value in _flat(card)]
    warnings = [f"- {escape(warning)}" for warning in card["warnings"]]
    lines = [f"# Data card of {escape(card['domain'])}", "", "| what | value |", "|---|---|", *rows]
    if warnings:
        lines += ["", "Warnings", "", *warnings]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Make text from the data safe in Markdown and HTML: no markup, no table cells, one line."""
    plain = " ".join(html.escape(text, quote=False).split())
    marks = "".join(f"\\{c}" if c in "\\`*{}[]()#+!|~" else c for c in plain)
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\_", marks)  # within a word it is no markup


def _flat(card: dict[str, Any], above: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in card.items():
        name = f"{above} {key}".strip().replace("_", " ")
        if isinstance(value, dict):
            flat += _flat(value, name)
        elif key not in ("domain", "warnings"):
            flat.append((name, value))
    return flat


def _shown(name: str, value: str | float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return escape(value)
    if name.startswith("share") or name == "sparsity":
        return f"{value:.2%}"
    if name.startswith("time"):
        return str(value)
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
