"""What a report is of: its data, encoders and seeds in a line, and its runs in a table."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.data import kinds, lists
from pipeline.data.card import escape
from pipeline.reporting import markdown
from pipeline.reporting.evidence import Evidence

VECTORS = {  # where a run's item vectors come from
    "id": "a table, one vector per item",
    "frozen": "public embeddings -> {head}",
    "tuned": "embeddings of the source-tuned encoder -> {head}",
    "end2end": "encoder -> {head}",
}
PARTS = {"id": "table, user encoder", "end2end": "top blocks of the encoder, head, user encoder"}


def line(found: Evidence, encoders: Mapping[str, Any]) -> str:
    """Say in a line which data, contents, encoders, user encoders and seeds a report is of.

    Args:
        found: what was found.
        encoders: by modality, a name or a specification, as params.yaml has them.
    """
    groups = [one.group for one in found.outcomes]
    sizes = {
        name: f"{escape(name)} ({card['users']:,} users, {card['items']:,} items)"
        for name, card in found.cards.items()
    }
    source = "".join(f"{sizes[name]} -> " for name in found.sources)
    targets = ", ".join(sizes[name] for name in _distinct(group.target for group in groups))
    contents = _distinct(group.content for group in groups)
    read = _distinct(modality for one in contents for modality in lists.MODALITIES[one])
    named = ", ".join(f"{modality} by `{_name(encoders[modality])}`" for modality in read)
    users = f"user encoder {', '.join(map(escape, _distinct(group.user for group in groups)))}"
    seeds = "1 seed" if found.seeds == 1 else f"{found.seeds} seeds"
    return f"{source}{targets}; content {', '.join(contents)}: {named}; {users}; {seeds}."


def runs(found: Evidence) -> str:
    """Say what each run of the report is: a row a run."""
    rows = []
    for run in (one.run for one in found.outcomes[0].runs):
        kind = kinds.RUNS[run]
        vectors = VECTORS[kind.vectors].format(head="NineRec's head" if kind.paper_head else "head")
        scratch = "scratch, public encoder" if kind.vectors == "end2end" else "scratch"
        start = f"the source's `{kind.start}` model" if kind.start else scratch
        trains = PARTS.get(kind.vectors, "head, user encoder") if kind.trains else "nothing"
        rows.append([f"`{run}`", vectors, start, trains])
    header = ["run", "item vectors from", "starts from", "trains on the target"]
    return markdown.table(header, rows, numbers_from=len(header))


def _distinct(words: Iterable[str]) -> list[str]:
    return [*dict.fromkeys(words)]


def _name(entry: Any) -> str:  # noqa: ANN401  # a name or a specification
    """Name an encoder; a folder somewhere on this machine by its own name."""
    name = str(entry["model"] if isinstance(entry, Mapping) else entry)
    return Path(name).name if Path(name).is_absolute() else name
