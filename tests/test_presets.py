"""Every preset is a whole params.yaml whose lists agree, and makes the stages it is meant to."""

import csv
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.content import specification
from pipeline.data import lists
from pipeline.reporting import ninerec
from pipeline.training import runs

ROOT = Path(__file__).parents[1]
FLOW = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
# ninerec-text: 1 encoder, 11 domains prepared and embedded, 1 pre-trained; on each of 9 targets
# tuned embeddings, id, end2end, end2end_transfer, an evaluation; a report. ninerec-image: the
# covers of 11 domains beside. ninerec-best: 2 encoders, 11 x (prepare, covers, 2 embed, join), 2
# pre-trained; 9 x (tuned embeddings, id, 5 runs, an evaluation); a report.
STAGES = {
    "break-even": 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1,
    "films-fashion": 2 + 3 * 5 + 3 * 2 + 2 + 2 * 3 * (1 + 2 + 1 + 2 + 2 + 1 + 1) + 1,
    "ninerec-best": 2 + 11 * 5 + 2 + 9 * (1 + 1 + 5 + 1) + 1,
    "ninerec-image": 1 + 11 * 3 + 1 + 9 * 5 + 1,
    "ninerec-text": 1 + 11 * 2 + 1 + 9 * 5 + 1,
}
NINEREC = [name for name in STAGES if name.startswith("ninerec")]


def read(name):
    return YAML(typ="safe").load(ROOT / f"presets/{name}.yaml")


def below(params, words):
    """What `${a.b}` stands for."""
    for word in words.strip("${}").split("."):
        params = params[word]
    return params


def count(params):
    """The stages that dvc.yaml makes of a params.yaml."""
    total = 0
    for block in FLOW.values():
        if "foreach" in block:
            total += len(below(params, block["foreach"]))
            continue
        number = 1
        for axis in block.get("matrix", {}).values():
            number *= len(below(params, axis))
        total += number
    return total


def test_these_are_the_presets():
    assert [path.stem for path in PRESETS] == [*STAGES]


@pytest.mark.parametrize("name", STAGES)
def test_a_preset_makes_the_stages_it_is_meant_to(name):
    params = read(name)
    lists.check(lists.Lists.model_validate(params), lists.generated(ROOT / "dvc.yaml"))
    for settings in runs.SETTINGS.values():
        settings.model_validate(params)
    assert count(params) == STAGES[name]
    assert count(params) <= 150, "more makes every call of DVC slow"


@pytest.mark.parametrize("name", NINEREC)
def test_ninerecs_presets_have_its_targets_and_both_sources(name):
    params = read(name)
    with ninerec.FILE.open() as file:
        published = {row["domain"] for row in csv.DictReader(file)}
    assert set(params["targets"]) == published
    assert len(published) == 9
    assert set(params["domains"]["all"]) - published == {"Bili_2M", "Bili_500K"}
    assert params["protocol"]["window"] == 23
    encoders = dict(specification.Encoders.model_validate(params["encoders"]))
    for modality in params["origins"]:
        specification.resolve(encoders[modality], modality)
