"""The lists dvc.yaml fans out over, which DVC can't derive from each other: do they agree?"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import Field
from ruamel.yaml import YAML

from pipeline.data import files, kinds
from pipeline.params import FILE, Params, Section

SANITY = ("popularity", "itemknn", "contentknn")  # beside the runs: recommenders without training
MODALITIES = {"text": ["text"], "image": ["image"], "both": ["text", "image"]}  # of a content
FLOW = Path("dvc.yaml")
WORD = re.compile(r"[A-Za-z0-9_]+")
SHELL = set('"$`\\\n')  # what has a meaning between the double quotes of a command


Content = Literal["text", "image", "both"]
Modality = Literal["text", "image"]


class Runs(Section):
    """Which runs there are, by what they start from."""

    pretrain_frozen: list[Literal["frozen"]]
    pretrain_end2end: list[Literal["end2end"]]
    frozen: list[str]
    end2end: list[str]
    frozen_transfer: list[str]
    tuned_transfer: list[str]
    end2end_transfer: list[str]

    def names(self, sources: list[str]) -> list[str]:
        """List the runs on a target, `id` first; without a source those from scratch alone."""
        listed = [*self.frozen, *self.end2end]
        if sources:
            listed += [*self.frozen_transfer, *self.tuned_transfer, *self.end2end_transfer]
        return [run for run in kinds.RUNS if run == "id" or run in listed]

    def encodes(self, sources: list[str]) -> bool:
        """Tell whether there is a run whose encoders train."""
        from_source = [*self.pretrain_end2end, *self.end2end_transfer]
        return bool(self.end2end or (sources and from_source))


class Reporting(Section):
    """The section `report`."""

    contrasts: list[Annotated[list[str], Field(min_length=2, max_length=2)]]  # [run, its base]


class Raw(Section):
    """Where one domain's raw files are."""

    format: str
    folder: str
    covers: str
    language: Literal["en", "zh"]


class Domains(Section):
    """The domains, and those that have each content."""

    all: dict[str, Raw]
    text: dict[str, Raw]
    image: dict[str, Raw]
    both: dict[str, Raw]


class Lists(Params):
    """Everything dvc.yaml fans out over."""

    demo: list[Literal["demo"]]
    domains: Domains
    sources: list[str]
    targets: list[str]
    contents: list[Content]
    users: list[str]
    user_encoders: dict[str, Any]
    runs: Runs
    encoders: dict[Modality, Any]
    origins: dict[Modality, str]
    report: Reporting


def generated(flow: Path) -> list[str]:
    """List the paths that the demo's blocks write, those of dvc.yaml that fan out over `demo`."""
    blocks = YAML(typ="safe").load(flow)["stages"].values() if flow.is_file() else []
    of_demo = [block for block in blocks if "${demo}" in block.get("matrix", {}).values()]
    return [out for block in of_demo for out in block["outs"]]


def check(lists: Lists, generated: Sequence[str] = ()) -> None:
    """See that the lists agree, before anything is computed.

    Args:
        lists: those of params.yaml.
        generated: the paths that only the demo writes.

    Raises:
        Stop: they do not; the message names both lists.
    """
    _check_words(lists)
    _check_demo(lists, generated)
    if len(lists.sources) > 1:
        stop(f"sources: {lists.sources}", "at most one source; run again for another")
    listed: dict[str, Sequence[str]] = {"targets": lists.targets, "users": lists.users}
    for field, words in listed.items():
        if not words:
            stop(f"{field}: []", "name at least one, or there is nothing to report")
    listed["contents"] = lists.contents  # may be none: `baseline` trains ids alone
    listed |= {f"runs.{field}": words for field, words in lists.runs.model_dump().items()}
    for field, words in listed.items():
        if len(set(words)) < len(words):
            stop(f"{field}: {words}", "a name is listed twice")
    for user in lists.users:
        if user not in lists.user_encoders:
            stop(f"{user!r} in users", f"user_encoders has {[*lists.user_encoders]}")
    for modality in lists.origins:
        if modality not in lists.encoders:
            stop(f"origins: {[*lists.origins]}", f"encoders names no {modality} encoder")
    _check_domains(lists)
    _check_modalities(lists)
    _check_contents(lists)
    _check_runs(lists)
    _check_contrasts(lists.report.contrasts)


def _check_words(lists: Lists) -> None:
    """See that nothing can be taken for another word or a command where a stage is called."""
    named = {"domains.all": [*lists.domains.all], "users": lists.users}
    named["format"] = [raw.format for raw in lists.domains.all.values()]
    for field, names in named.items():
        for name in names:
            if not WORD.fullmatch(name):
                stop(f"{field}: the name {name!r}", "it may have letters, digits and _ only")
    for name, raw in lists.domains.all.items():
        for path in (raw.folder, raw.covers):
            if SHELL & set(path):
                stop(f"domains.all.{name}: {path!r}", 'a path may not have " $ ` \\ or a new line')


def _check_demo(lists: Lists, generated: Sequence[str]) -> None:
    """See that nothing is expected of a demo that is not there, though it may have left files."""
    if lists.demo:
        return
    named = {f"origins.{modality}": path for modality, path in lists.origins.items()}
    for name, raw in lists.domains.all.items():
        named[f"domains.all.{name}.folder"] = raw.folder
        named[f"domains.all.{name}.covers"] = raw.covers
    for key, path in named.items():
        for made in generated:
            if path and Path(path).absolute().is_relative_to(Path(made).absolute()):
                stop(
                    f"demo: [], but {key}: {path!r} is the demo's",
                    "name your own, or write demo: [demo]",
                )


def _check_domains(lists: Lists) -> None:
    """See that every domain is known, and is a source or a target, not both."""
    domains = lists.domains
    for name in [*lists.sources, *lists.targets]:
        if name not in domains.all:
            stop(f"{name!r} in sources or targets", f"domains.all lists {[*domains.all]}")
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


def _check_contrasts(contrasts: Sequence[Sequence[str]]) -> None:
    """See that every contrast is of two runs there may be, and none is listed twice."""
    known = [*kinds.RUNS, *SANITY]
    seen: list[set[str]] = []
    for pair in contrasts:
        for name in pair:
            if name not in known:
                stop(f"report.contrasts: {pair}: the run {name!r}", f"it may name {known}")
        if len(set(pair)) < len(pair):
            stop(
                f"report.contrasts: {pair}",
                f"a run minus itself is always 0; name two different runs of {known}",
            )
        if set(pair) in seen:
            stop(
                f"report.contrasts: {pair}",
                "the difference is listed twice, perhaps the other way round, and p is "
                "corrected for each; name it once",
            )
        seen.append(set(pair))


def sections(flow: Path) -> set[str]:
    """Name the sections that there may be: those that dvc.yaml names, the lists, `machine`."""
    blocks = YAML(typ="safe").load(flow)["stages"].values()
    read = [name for block in blocks for name in block.get("do", block).get("params", [])]
    return {name.partition(".")[0] for name in read} | {*Lists.model_fields, "machine"}


def check_report(contents: Sequence[str]) -> None:
    """See that there will be something to report.

    Raises:
        Stop: there are no contents.
    """
    if not contents:
        stop(
            "contents: []",
            "name at least one, or there is nothing to report; ids alone are trained by "
            "`dvc repro baseline`",
        )


def stop(what: str, rule: str) -> NoReturn:
    """Stop with a message about params.yaml.

    Raises:
        Stop: always.
    """
    raise files.Stop(f"{FILE}: {what}: {rule}")
