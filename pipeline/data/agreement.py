"""Whether the lists of params.yaml agree, before anything is computed."""

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from pipeline.data import kinds, pairs
from pipeline.data.lists import MODALITIES, SANITY, Lists, stop

WORD = re.compile(r"[A-Za-z0-9_]+")
UNSEEN = {"size", "nfiles"}  # keys that DVC leaves out when it looks for a run in its cache
SHELL = set('"$`\\\n')  # what has a meaning between the double quotes of a command


def check(lists: Lists, generated: Sequence[str] = ()) -> None:
    """See that the lists agree, before anything is computed.

    Args:
        lists: those of params.yaml.
        generated: the paths that only the demo writes.

    Raises:
        Stop: they do not; the message names both lists.
    """
    _check_words(lists)
    for modality, encoder in lists.encoders.items():
        _check_seen(f"encoders.{modality}", encoder)
    _check_demo(lists, generated)
    if len(lists.sources) > 1:
        stop(f"sources: {lists.sources}", "at most one source; run again for another")
    for field, words in {"targets": lists.targets, "users": lists.users}.items():
        if not words:  # contents may be: `baseline` trains ids alone
            stop(f"{field}: []", "name at least one, or there is nothing to report")
    _check_twice(lists)
    for user in lists.users:
        if user not in lists.user_encoders:
            stop(f"{user!r} in users", f"user_encoders has {[*lists.user_encoders]}")
        _check_heads(user, lists.user_encoders[user], lists.model.get("width"))
    for modality in lists.origins:
        if modality not in lists.encoders:
            stop(f"origins: {[*lists.origins]}", f"encoders names no {modality} encoder")
        _check_origin(modality, lists.origins[modality], lists.encoders[modality])
    _check_domains(lists)
    _check_modalities(lists)
    _check_contents(lists)
    _check_runs(lists)
    encodes = bool(lists.contents) and lists.runs.encodes(lists.sources)
    kinds.check_loss(lists.training.get("loss"), encodes)
    _check_contrasts(lists.report.contrasts, lists.user_encoders)


def check_paths(lists: Lists, generated: Sequence[str] = ()) -> None:
    """See that what the lists name lies there, which DVC says late and by an error's number.

    Args:
        lists: those of params.yaml.
        generated: the paths that only the demo writes, which need not be there yet.

    Raises:
        Stop: something does not.
    """
    named = _paths(lists)
    named |= {
        f"domains.image.{name}.covers": raw.covers for name, raw in lists.domains.image.items()
    }
    for key, path in named.items():
        if not is_of_demo(path, generated) and not Path(path).exists():
            stop(f"{key}: {path!r}", f"there is nothing at {Path(path).absolute()}; correct it")


def _paths(lists: Lists) -> dict[str, str]:
    """Name by their keys the paths that encoders and domains are made from, covers apart."""
    origins = {f"origins.{modality}": path for modality, path in lists.origins.items()}
    raws = lists.domains.all.items()
    return origins | {f"domains.all.{name}.folder": raw.folder for name, raw in raws}


def is_of_demo(path: str, generated: Sequence[str]) -> bool:
    """Tell whether a path lies in what only the demo writes."""
    whole = Path(path).absolute()
    return any(whole.is_relative_to(Path(made).absolute()) for made in generated)


def _check_origin(modality: str, origin: str, encoder: Any) -> None:  # noqa: ANN401  # its stage's
    """See that a change of an encoder's local files is noticed: its origin is what DVC watches."""
    named = encoder if isinstance(encoder, dict) else {"model": encoder}
    watched = Path(origin).absolute()
    for path in (named.get("model"), named.get("weights")):
        local = Path(str(path).removeprefix("timm:").removeprefix("open_clip:")).absolute()
        is_watched = local.is_relative_to(watched) or watched.is_relative_to(local)
        if path and local.exists() and not is_watched:
            stop(
                f"encoders.{modality} reads {path}, but origins.{modality}: {origin!r}",
                "name there what it is made from, so that a change of it is noticed",
            )


def _check_heads(user: str, settings: Any, width: Any) -> None:  # noqa: ANN401  # their stages'
    """See that a user encoder's heads share its width evenly; what is no number is not seen to."""
    heads = settings.get("heads") if isinstance(settings, dict) else None
    if isinstance(width, int) and isinstance(heads, int) and heads > 0 and width % heads:
        stop(
            f"user_encoders.{user}.heads: {heads}, but model.width: {width}",
            "take a width that its heads divide evenly",
        )


def _check_twice(lists: Lists) -> None:
    """See that nothing is listed twice."""
    listed: dict[str, Sequence[object]] = {
        "targets": lists.targets,
        "users": lists.users,
        "contents": lists.contents,
        "seeds": lists.seeds,
        **{f"runs.{field}": words for field, words in lists.runs.model_dump().items()},
    }
    for field, words in listed.items():
        if len(set(words)) < len(words):
            stop(f"{field}: {words}", "one is listed twice")


def _check_words(lists: Lists) -> None:
    """See that nothing can be taken for another word or a command where a stage is called."""
    named = {"domains.all": [*lists.domains.all], "users": lists.users}
    for field, names in named.items():
        for name in names:
            if not WORD.fullmatch(name):
                stop(f"{field}: the name {name!r}", "it may have letters, digits and _ only")
            if name in UNSEEN:
                stop(
                    f"{field}: the name {name!r}", "DVC looks past keys of this name; take another"
                )
    for name, raw in lists.domains.all.items():
        for path in (raw.folder, raw.covers):
            if SHELL & set(path):
                stop(f"domains.all.{name}: {path!r}", 'a path may not have " $ ` \\ or a new line')
            if path and Path.cwd().is_relative_to(os.path.abspath(path)):  # noqa: PTH100  # links stay
                stop(
                    f"domains.all.{name}: {path!r}",
                    "it holds this checkout, and so all outputs; give the raw files their own",
                )


def _check_seen(where: str, value: Any) -> None:  # noqa: ANN401  # whatever YAML can hold
    """See that DVC notices every change: its cache of runs takes no notice of UNSEEN keys.

    Of two values of such a key, it would give the results of the one that ran first to both.
    """
    for key, inner in value.items() if isinstance(value, dict) else ():
        if key in UNSEEN:
            stop(
                f"{where}: the key {key!r}",
                f"DVC looks past {' and '.join(sorted(UNSEEN))}, so that a change would go "
                "unnoticed; the pixels of a side are preprocess.pixels",
            )
        _check_seen(f"{where}.{key}", inner)


def _check_demo(lists: Lists, generated: Sequence[str]) -> None:
    """See that nothing is expected of a demo that is not there, though it may have left files."""
    if lists.demo:
        return
    raws = lists.domains.all.items()
    named = _paths(lists) | {f"domains.all.{name}.covers": raw.covers for name, raw in raws}
    for key, path in named.items():
        if path and is_of_demo(path, generated):
            stop(
                f"demo: [], but {key}: {path!r} is the demo's",
                "name your own, or write demo: [demo]",
            )


def _check_domains(lists: Lists) -> None:
    """See that every domain is known, and is a source or a target, not both."""
    domains = lists.domains
    for name in [*lists.sources, *lists.targets]:
        if name not in domains.all:
            known = f"domains.all lists {[*domains.all]}; list it there or take it out"
            stop(f"{name!r} in sources or targets", known)
        if name in lists.sources and name in lists.targets:
            stop(f"{name!r} in sources and in targets", "a domain is the one or the other")


def _check_modalities(lists: Lists) -> None:
    """See that what stands under text, image and both can be computed."""
    domains = lists.domains
    for part, listed in {"text": domains.text, "image": domains.image}.items():
        for name, raw in listed.items():
            if domains.all.get(name) != raw:
                stop(f"{name!r} in domains.{part}", "it must stand alike in domains.all")
            if part == "image" and not raw.covers:
                stop(
                    f"{name!r} in domains.image has covers: ''",
                    "name its folder of covers, or take it out and use content text for it",
                )
        if listed and part not in lists.origins:
            stop(f"domains.{part}: {[*listed]}", f"origins has no {part} encoder")
    for name in domains.both:
        for part, listed in {"text": domains.text, "image": domains.image}.items():
            if name not in listed:
                stop(f"{name!r} in domains.both", f"domains.{part} lists {[*listed]}")


def _check_contents(lists: Lists) -> None:
    """See that every domain has what each content needs, and every modality an encoder."""
    domains = lists.domains
    listed = {"text": domains.text, "image": domains.image, "both": domains.both}
    for content in lists.contents:
        for modality in MODALITIES[content]:
            if modality not in lists.origins:
                stop(f"contents: {lists.contents}", f"origins has no {modality} encoder")
        lacking = [n for n in [*lists.sources, *lists.targets] if n not in listed[content]]
        if lacking:
            stop(
                f"contents: {lists.contents}, but domains.{content} lacks {lacking}",
                f"list them in domains.{content}, or take {content!r} out of contents",
            )


def _check_runs(lists: Lists) -> None:
    """See that runs stand where they belong and have what they start from."""
    runs = lists.runs.model_dump()
    if lists.contents and lists.runs.names(lists.sources) == ["id"]:
        stop(
            f"contents: {lists.contents}, but runs lists nothing that reads them",
            "list a run, e.g. frozen, or train ids alone: contents: [] and `dvc repro baseline`",
        )
    for field, listed in runs.items():
        allowed = [name for name, kind in kinds.RUNS.items() if kind.listed == field]
        if field.startswith("pretrain"):
            continue
        for name in listed:
            if name not in allowed:
                stop(f"runs.{field}: {name!r}", f"it may list {allowed}")
    if not lists.sources:
        return
    for kind in kinds.RUNS.values():
        field, needed = kind.listed, f"pretrain_{kind.start}"
        if kind.start and runs[field] and not runs[needed]:
            stop(
                f"runs.{field}: {runs[field]}, but runs.{needed}: []",
                f"list what they start from in runs.{needed}, or take them out",
            )


def _check_contrasts(contrasts: Sequence[Sequence[str]], users: Collection[str]) -> None:
    """See that every contrast is of two runs there may be, and none is listed twice."""
    known = [*kinds.RUNS, *SANITY]
    seen: list[set[pairs.Side]] = []
    for pair in contrasts:
        if any("" in name.split("/") for name in pair):
            stop(f"report.contrasts: {pair}", "a name before or behind a / is missing")
        sides = [side.essence() for side in pairs.read(pair)]
        for side in sides:
            if side.run not in known:
                stop(f"report.contrasts: {pair}: the run {side.run!r}", f"it may name {known}")
            if side.user and side.user not in users:
                stop(
                    f"report.contrasts: {pair}: {side.user!r}",
                    f"before a run may stand a content of {[*MODALITIES]}, a user encoder of "
                    f"{[*users]}, or both: content/user/run",
                )
        if len(set(sides)) < len(sides):
            stop(
                f"report.contrasts: {pair}",
                f"a run minus itself is always 0; name two different runs of {known}, or two "
                "contents or user encoders: [both/frozen, text/frozen], which are one to ids and "
                "to what is not trained",
            )
        if set(sides) in seen:
            stop(
                f"report.contrasts: {pair}",
                "the difference is listed twice, perhaps the other way round, and p is "
                "corrected for each; name it once",
            )
        seen.append(set(sides))
