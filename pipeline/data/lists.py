"""The lists dvc.yaml fans out over, which DVC can't derive from each other."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import Field
from ruamel.yaml import YAML

from pipeline.data import files, kinds
from pipeline.params import FILE, Params, Section

SANITY = ("popularity", "itemknn", "contentknn")  # beside the runs: recommenders without training
MODALITIES = {"text": ["text"], "image": ["image"], "both": ["text", "image"]}  # of a content
FLOW = Path("dvc.yaml")

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

    contrasts: list[Annotated[list[str], Field(min_length=2, max_length=2)]]  # see `pairs`


class Raw(Section):
    """Where one domain's raw files are."""

    format: Literal["ninerec", "plain", "recbole", "table"]
    folder: Annotated[str, Field(min_length=1)]
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
    model: dict[str, Any]  # its width: not every number of heads divides it
    training: dict[str, Any]  # its loss: not every run can take it
    seeds: list[int]


def generated(flow: Path) -> list[str]:
    """List the paths that the demo's blocks write, those of dvc.yaml that fan out over `demo`."""
    blocks = YAML(typ="safe").load(flow)["stages"].values() if flow.is_file() else []
    of_demo = [block for block in blocks if "${demo}" in block.get("matrix", {}).values()]
    return [out for block in of_demo for out in block["outs"]]


def sections(flow: Path) -> set[str]:
    """Name the sections that there may be: those that dvc.yaml names, the lists, `machine`."""
    return _read_by(YAML(typ="safe").load(flow)["stages"].values())


def needed(flow: Path, content: Mapping[str, Any]) -> set[str]:
    """Name the sections that a params.yaml must have: the lists, `machine`, those of its stages.

    A block of dvc.yaml has stages where none of the lists that it fans out over is empty.
    """

    def has_stages(block: Mapping[str, Any]) -> bool:
        fans = [block["foreach"]] if "foreach" in block else block.get("matrix", {}).values()
        return all(_at(content, fan) for fan in fans)

    return _read_by(filter(has_stages, YAML(typ="safe").load(flow)["stages"].values()))


def _read_by(blocks: Iterable[Mapping[str, Any]]) -> set[str]:
    """Name the sections that blocks of dvc.yaml read, with those that every command reads."""
    read = [name for block in blocks for name in block.get("do", block).get("params", [])]
    return {name.partition(".")[0] for name in read} | {*Lists.model_fields, "machine"}


def _at(content: Mapping[str, Any], reference: str) -> Any:  # noqa: ANN401  # a list or a mapping
    """Give what "${domains.all}" stands for."""
    value: Any = content
    for key in reference.removeprefix("${").removesuffix("}").split("."):
        value = value[key]
    return value


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
