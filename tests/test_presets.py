"""Every preset makes a whole params.yaml whose lists agree, and makes the stages it is meant to."""

import csv
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.content import specification
from pipeline.data import agreement, lists, presets
from pipeline.download import release
from pipeline.reporting import ninerec
from pipeline.training import runs
from stages import encoder

ROOT = Path(__file__).parents[1]
FLOW = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
# ninerec-text: 1 encoder, 10 domains prepared and embedded, 1 pre-trained; on each of 9 targets
# tuned embeddings, id, end2end, end2end_transfer, an evaluation; a report. ninerec-image: the
# covers of 10 domains beside. ninerec-best: 2 encoders, 10 x (prepare, covers, 2 embed, join), 2
# pre-trained; 9 x (tuned embeddings, id, 5 runs, an evaluation); a report.
STAGES = {
    "break-even": 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1,
    "films-fashion": 2 + 3 * 5 + 3 * 2 + 2 + 2 * 3 * (1 + 2 + 1 + 2 + 2 + 1 + 1) + 1,
    # The same with one target, and with one content and four user encoders.
    "films-seeds": 2 + 3 * 5 + 3 * 2 + 1 + 3 * (1 + 2 + 1 + 2 + 2 + 1 + 1) + 1,
    "films-users": 2 + 3 * 5 + 4 * 2 + 2 * 4 + 2 * 4 * (1 + 1 + 1 + 2 + 2 + 1 + 1) + 1,
    "ninerec-bert4rec-image": 1 + 10 * 3 + 1 + 9 * 5 + 1,
    "ninerec-bert4rec-text": 1 + 10 * 2 + 1 + 9 * 5 + 1,
    "ninerec-best": 2 + 10 * 5 + 2 + 9 * (1 + 1 + 5 + 1) + 1,
    "ninerec-gru4rec-text": 1 + 10 * 2 + 1 + 9 * 5 + 1,
    "ninerec-image": 1 + 10 * 3 + 1 + 9 * 5 + 1,
    "ninerec-text": 1 + 10 * 2 + 1 + 9 * 5 + 1,
    "paper-head": 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1,
}
NINEREC = [name for name in STAGES if name.startswith("ninerec")]


def read(name):
    return presets.read(ROOT / f"presets/{name}.yaml")


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
    agreement.check(lists.Lists.model_validate(params), lists.generated(ROOT / "dvc.yaml"))
    assert set(params) <= lists.sections(ROOT / "dvc.yaml")
    for settings in runs.SETTINGS.values():
        settings.model_validate(params)
    assert count(params) == STAGES[name]
    assert count(params) <= 150, "more makes every call of DVC slow"


@pytest.mark.parametrize("name", NINEREC)
def test_ninerecs_presets_have_its_targets_and_a_source(name):
    params = read(name)
    with ninerec.FILE.open() as file:
        published = {row["domain"] for row in csv.DictReader(file)}
    assert set(params["targets"]) == published
    assert len(published) == 9
    assert set(params["domains"]["all"]) - published == {"Bili_2M"}
    assert params["protocol"]["window"] == 23
    encoders = encoder.Encode.model_validate(params).encoders
    assert encoders.keys() == params["origins"].keys()
    for modality in encoders:
        specification.resolve(encoders[modality], modality)


@pytest.mark.parametrize("name", ["ninerec-text", "ninerec-image", "ninerec-best"])
def test_the_other_source_is_there_as_a_comment(name, tmp_path):
    """What domains lists is prepared and embedded, in use or not: 138,033 covers more."""
    lines = (ROOT / f"presets/{name}.yaml").read_text().splitlines(keepends=True)
    first = lines.index("    # Bili_500K:\n")
    for place in range(first, first + 5):
        lines[place] = lines[place].replace("    # ", "    ", 1)
    (tmp_path / "both.yaml").write_text("".join(lines))
    params = presets.read(tmp_path / "both.yaml")
    params["sources"] = ["Bili_500K"]
    agreement.check(lists.Lists.model_validate(params), lists.generated(ROOT / "dvc.yaml"))
    read_where_verify_looks(params, name)
    assert {"Bili_2M", "Bili_500K"} < set(params["domains"]["all"])


@pytest.mark.parametrize("name", NINEREC)
def test_ninerecs_presets_read_where_verify_looks(name):
    read_where_verify_looks(read(name), name)


def read_where_verify_looks(params, name):
    root = Path("../NineRec")
    for domain, raw in params["domains"]["all"].items():
        assert raw["folder"] == str(release.folder(root, domain))
        first = "" if name.endswith("text") else str(release.covers_places(root, domain)[0])
        assert raw["covers"] == first


PAPER = {  # as released for SASRec with 2 x 32 users and BERT, with 8 x 8 users and Swin-B
    "ninerec-text": {
        "encoders.text.pooling": "cls", "encoders.text.max_tokens": 30,
        "end2end.trainable.layers": 6, "end2end.learning_rate": 5e-5,
    },
    "ninerec-image": {
        "covers.pixels": 224, "encoders.image.preprocess.mean": [0.5] * 3,
        "encoders.image.preprocess.std": [0.5] * 3, "end2end.trainable.layers": "all",
        "end2end.learning_rate": 1e-4,
    },
}  # fmt: skip
ALIKE = {
    "protocol.min_items": 5, "protocol.window": 23, "protocol.mask": "window",
    "protocol.catalogue": "window", "protocol.select": "hr@10",
    "model.width": 1024, "tower.head.standardise": "none",
    "tower.head.layers": 1, "training.loss": "bce", "training.negatives.number": 1,
    "training.negatives.popularity": 0.0, "training.batch_users": 64,
    "training.learning_rate": 5e-5, "training.weight_decay": 0.1, "training.epochs": 120,
    "training.patience": 31, "training.warmup_steps": 0, "training.decays": 0,
    "end2end.probe": False, "end2end.encoder_learning_rate": 1e-5,
    "end2end.encoder_weight_decay": 0.0, "end2end.epochs": 120, "end2end.patience": 31,
    "end2end.warmup_steps": 0, "evaluate.cutoffs": [10],
    "user_encoders.sasrec": {
        "blocks": 2, "heads": 2, "norm": "post", "activation": "relu", "expansion": 4,
        "dropout": 0.1,
    },
    "user_encoders.bert4rec.mask": {"share": 0.4, "last": 0.0},
    "user_encoders.gru4rec": {"layers": 2, "dropout": 0.1},
    "user_encoders.nextitnet": {
        "dilations": [1, 4], "repeats": 2, "kernel": 3, "dropout": 0.0,
    },
}  # fmt: skip


OF_OTHERS = {  # as released, where they differ from the above
    "ninerec-bert4rec-text": {
        "users": ["bert4rec"], "model.width": 256, "training.batch_users": 10,
        "training.learning_rate": 1e-4, "training.patience": 501,
        "end2end.trainable.layers": "all", "end2end.learning_rate": 1e-4,
        "end2end.encoder_weight_decay": 0.1, "end2end.patience": 501,
    },
    "ninerec-bert4rec-image": {
        "users": ["bert4rec"], "protocol.select": "ndcg@10", "training.loss": "bpr",
        "training.batch_users": 48, "training.learning_rate": 1e-4, "training.epochs": 220,
        "training.patience": 21, "end2end.learning_rate": 1e-4,
        "end2end.encoder_learning_rate": 1e-4, "end2end.epochs": 220, "end2end.patience": 21,
        "user_encoders.bert4rec": {
            "blocks": 2, "heads": 4, "norm": "post", "activation": "gelu", "expansion": 1,
            "dropout": 0.1, "mask": {"share": 0.6, "last": 0.0},
        },
        "user_encoders.bert4rec.mask": {"share": 0.6, "last": 0.0},
    },
    "ninerec-gru4rec-text": {
        "users": ["gru4rec"], "protocol.select": "ndcg@10", "end2end.trainable.layers": "all",
        "end2end.learning_rate": 1e-4, "end2end.encoder_learning_rate": 5e-5,
        "end2end.epochs": 220, "end2end.patience": 21,
        "user_encoders.gru4rec": {"layers": 2, "dropout": 0.0},
        "encoders.text.model": "hfl/chinese-bert-wwm",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", [*PAPER, *OF_OTHERS])
def test_the_papers_presets_have_its_numbers(name):
    params = read(name)
    base = "ninerec-image" if name.endswith("image") else "ninerec-text"
    expected = {**ALIKE, **PAPER[base], **OF_OTHERS.get(name, {})}
    for words, value in expected.items():
        section, _, user = words.partition("user_encoders.")
        if not section and user.partition(".")[0] not in params["user_encoders"]:
            continue  # not in use
        assert below(params, words) == value, words
    assert params["users"] == expected.get("users", ["sasrec"])
