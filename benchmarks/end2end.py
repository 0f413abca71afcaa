"""End to end at almost the cost of frozen: our training step against NineRec's.

    python -m benchmarks.end2end                                all of it, hours on a CPU
    python -m benchmarks.end2end --part steps --content text --layers 2 --data hm
    python -m benchmarks.end2end --device cuda                  encoders of BERT-base's size

Parts that are run apart come together in results/end2end.json, each with its own machine and date;
what is measured again is replaced.
"""

import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from benchmarks import end2end_data as data
from benchmarks import end2end_epoch as epoch
from benchmarks import end2end_ladder as ladder
from benchmarks import end2end_linearity as linearity
from benchmarks import end2end_sides as sides
from benchmarks import end2end_steps as steps
from benchmarks import end2end_tables as tables
from benchmarks import measure
from pipeline.content import device as devices

NAME = "end2end"
PARTS: dict[str, Callable[[sides.Setup, sides.Case, int], dict[str, Any]]] = {
    "steps": steps.compare,
    "ladder": ladder.climb,
    "epochs": epoch.compare,
    "linearity": linearity.compare,
}
# By device: encoders; of ours, steps a repeat; of theirs, users a step and steps a repeat.
SIZES = {"cpu": ("small", 2, 8, 1), "cuda": ("base", 12, 32, 3)}

Part = StrEnum("Part", ["steps", "ladder", "epochs", "linearity"])
Domain = StrEnum("Domain", ["hm", "source"])
Content = StrEnum("Content", ["text", "image", "both"])


def main(
    part: Annotated[list[Part] | None, typer.Option(help="default: all")] = None,
    domain: Annotated[list[Domain] | None, typer.Option("--data", help="default: both")] = None,
    content: Annotated[list[Content] | None, typer.Option(help="default: all")] = None,
    layers: Annotated[
        list[str] | None, typer.Option(help="top blocks that train; default: 2, all")
    ] = None,
    texts: Annotated[
        list[str] | None, typer.Option(help="tokens of a text; default: 30, whole")
    ] = None,
    encoders: Annotated[
        Literal["small", "small-cls", "base", "auto"], typer.Option(help="auto: by device")
    ] = "auto",
    device: Annotated[Literal["cpu", "cuda", "auto"], typer.Option()] = "auto",
    users: Annotated[int, typer.Option(help="of a step of ours")] = tables.GOAL_USERS,
    reference_users: Annotated[int, typer.Option(help="of a step of theirs; 0: by device")] = 0,
    repeats: Annotated[int, typer.Option(help=measure.REPEATS)] = 0,
) -> None:
    """Measure what is asked for and write it beside what is known."""
    # Before torch's first tensor. With small pages, waiting for them took theirs, whose images fill
    # gigabytes, up to half of its time on a virtual machine.
    os.environ["THP_MEM_ALLOC_ENABLE"] = "1"
    kind = devices.pick(device).type
    scale, ours, theirs, times = SIZES[kind]
    with tempfile.TemporaryDirectory() as folder:
        setup = sides.Setup(
            folder=Path(folder),
            scale=scale if encoders == "auto" else encoders,
            device=kind,
            users=users,
            steps=ours,
            reference_users=reference_users or theirs,
            reference_steps=times,
        )
        lengths = texts or ["30", "whole"]
        prepare_encoders(setup, lengths)
        places = (place(setup, name, lengths[0]) for name in domain or Domain)
        asked = ([*map(str, content or Content)], layers or ["2", "all"], lengths)
        found = itertools.chain.from_iterable(cases(one, *asked) for one in places if one)
        for case, name in itertools.product(found, map(str, part or Part)):
            if belongs(name, case):
                data.embeddings(case.place, case.content, setup.folder / "encoders" / case.texts)
                measure.say(f"{name}: {' '.join(words(setup, case).values())}")
                keep(name, setup, case, PARTS[name](setup, case, repeats))


def prepare_encoders(setup: sides.Setup, lengths: Sequence[str]) -> None:
    """Fetch the encoders, that of texts once a length."""
    root = setup.folder / "encoders"
    data.image_encoder(root / "image", setup.scale)
    for tokens in lengths:
        limit = None if tokens == "whole" else int(tokens)
        data.text_encoder(root / tokens / "text", setup.scale, limit)
        (root / tokens / "image").symlink_to(root / "image")


def place(setup: sides.Setup, name: str, tokens: str) -> data.Place | None:
    """Lay a domain out; none where its data are missing."""
    words_of = setup.folder / "encoders" / tokens / "text"
    return data.make(name, setup.folder / name, setup.scale, setup.users, words_of)


def cases(
    where: data.Place, contents: Sequence[str], layers: Sequence[str], lengths: Sequence[str]
) -> Iterator[sides.Case]:
    """Give all cases of a domain; more than one length of texts on hm with texts alone."""
    for content in contents:
        matters = where.name == "hm" and content == "text"
        for tokens, trained in itertools.product(lengths if matters else lengths[:1], layers):
            amount: sides.Layers = "all" if trained == "all" else int(trained)
            yield sides.Case(where, content, amount, tokens)


def belongs(part: str, case: sides.Case) -> bool:
    """Tell whether a case has this part: all have steps, some the rest.

    The ladder and epochs are of a kept prefix; linearity is that of one encoder.
    """
    if part == "steps":
        return True
    if part == "linearity":
        return case.place.name == "hm" and case.content != "both" and case.texts != "whole"
    return case.place.name == {"ladder": "source", "epochs": "hm"}[part] and case.layers != "all"


def words(setup: sides.Setup, case: sides.Case) -> dict[str, str]:
    """Name a case in words."""
    return {
        "device": setup.device,
        "scale": setup.scale,
        "data": case.place.name,
        "content": case.content,
        "texts": case.texts if case.content != "image" else "-",
        "layers": str(case.layers),
        "users": str(setup.users),
    }


def keep(part: str, setup: sides.Setup, case: sides.Case, row: dict[str, Any]) -> None:
    """Write a row beside those that are known already, in the place of its former self."""
    path = measure.FOLDER / "results" / f"{NAME}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    results = {name: known.get(name, {}) for name in PARTS}
    named = words(setup, case)
    about = {
        "case": named,
        "machine": measure.machine(),
        "domain": {"users": case.place.users, "items": case.place.items},
        "users": setup.users,
        "reference_users": setup.reference_users,
    }
    results[part][" ".join(named.values())] = about | row
    measure.write(NAME, results, tables.whole(results))


if __name__ == "__main__":
    typer.run(main)
