"""The domains' data cards, side by side."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.data import files
from pipeline.data.card import escape
from pipeline.reporting import markdown

SAMPLED = "sampled.of"  # a row where there are samples
ROWS = {  # label -> where it stands in the card of `prepare`, or below `covers` in that of `covers`
    "users": "users",
    "items": "items",
    "users they are a sample of": SAMPLED,
    "candidates": "candidates",
    "interactions": "interactions",
    "of them learned from": "share_learned",
    "sparsity": "sparsity",
    "history length, median": "lengths.median",
    "history length, longest": "lengths.max",
    "items without text": "share_without.text",
    "items without a readable cover": "covers.share_missing",
    "items in no train part": "share_without.history",
    "repeated held-out test items": "held_out.test.repeated",
    "cold held-out test items": "held_out.test.cold",
    "dropped: unknown items": "dropped.unknown_item",
    "dropped: users with too few items": "dropped.short_users",
    "dropped: duplicates": "dropped.duplicates",
}
SHARES = ("share_learned", "sparsity", "share_without", "covers.share_missing")  # shown in percent


def load(folder: Path, domains: list[str], illustrated: list[str]) -> dict[str, dict[str, Any]]:
    """Read each domain's card, that of its covers within it as `covers` where it is illustrated.

    `covers.share_missing` is the share of items without a readable cover, in [0, 1].
    """
    cards = {}
    for domain in domains:
        cards[domain] = files.read_json(folder / domain / "prepare" / "card.json")
        if domain in illustrated:
            found = files.read_json(folder / domain / "covers" / "card.json")
            cards[domain]["covers"] = {**found, "share_missing": found["missing"] / found["items"]}
    return cards


def table(cards: Mapping[str, Mapping[str, Any]]) -> str:
    """Set the cards side by side: a column a domain."""
    header = ["", *map(escape, cards)]
    rows = [
        [label, *(_shown(place, _find(card, place)) for card in cards.values())]
        for label, place in ROWS.items()
        if place != SAMPLED or any(SAMPLED.partition(".")[0] in card for card in cards.values())
    ]
    return markdown.table(header, rows)


def names(card: Mapping[str, Any]) -> set[str]:
    """Name what a domain may be known as: its word, and its raw files' name."""
    file = str(card.get("source", ""))
    return {str(card["domain"]), file.partition("_pair.")[0].partition("_behaviour.")[0]}


def _find(card: Mapping[str, Any], place: str) -> float | None:
    found: Any = card
    for key in place.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return None if found is None else float(found)


def _shown(place: str, value: float | None) -> str:
    if value is None:
        return markdown.NOTHING
    if place.startswith(SHARES):
        return f"{value:.2%}"
    return markdown.count(value) if value.is_integer() else f"{value:,.1f}"  # a median
