"""Lists that do not agree stop before anything is computed, and the message names both."""

import copy
import re

import pytest
from ruamel.yaml import YAML
from stub_flow import ROOT

from pipeline.data import agreement, files, kinds, lists

SHIPPED = YAML(typ="safe").load(ROOT / "params.yaml")
SHIPPED["domains"] = {part: dict(listed) for part, listed in SHIPPED["domains"].items()}
RAW = SHIPPED["domains"]["all"]["near"]


def changed(changes):
    """The shipped params.yaml with some values replaced; None takes a key out."""
    content = copy.deepcopy(SHIPPED)
    for path, value in changes.items():
        *above, key = path.split(".")
        owner = content
        for name in above:
            owner = owner[name]
        if value is None:
            del owner[key]
        else:
            owner[key] = value
    return lists.Lists.model_validate(content)


BAD = [
    ({"targets": ["nowhere"]}, "'nowhere' in sources or targets: domains.all lists ['harbor'"),
    ({"sources": ["nowhere"]}, "'nowhere' in sources or targets: domains.all lists ['harbor'"),
    ({"sources": ["near"]}, "'near' in sources and in targets: a domain is the one or the other"),
    ({"sources": ["near", "far"]}, "sources: ['near', 'far']: at most one source"),
    ({"targets": ["near", "near"]}, "targets: ['near', 'near']: one is listed twice"),
    ({"contents": ["both", "both"]}, "contents: ['both', 'both']: one is listed twice"),
    ({"users": ["sasrec", "sasrec"]}, "users: ['sasrec', 'sasrec']: one is listed twice"),
    ({"runs.frozen": ["frozen"] * 2}, "runs.frozen: ['frozen', 'frozen']: one is listed"),
    ({"targets": []}, "targets: []: name at least one"),
    ({"users": []}, "users: []: name at least one"),
    (
        {"runs": {field: [] for field in SHIPPED["runs"]}},
        "contents: ['both'], but runs lists nothing that reads them: list a run, e.g. frozen",
    ),
    (
        {"sources": [], "runs.frozen": [], "runs.end2end": []},  # the others need a source
        "contents: ['both'], but runs lists nothing that reads them",
    ),
    (
        {"users": ["gru"]},
        "'gru' in users: user_encoders has ['sasrec', 'bert4rec', 'gru4rec', 'nextitnet', 'hstu'",
    ),
    (
        {"model.width": 63},
        "user_encoders.sasrec.heads: 2, but model.width: 63: take a width that its heads divide",
    ),
    ({"domains.all": {"a-b": RAW}}, "domains.all: the name 'a-b': it may have letters"),
    ({"domains.all": {"a;b": RAW}}, "domains.all: the name 'a;b': it may have letters"),
    ({"domains.all": {"../a": RAW}}, "domains.all: the name '../a': it may have letters"),
    ({"domains.all": {"a\n": RAW}}, r"domains.all: the name 'a\n': it may have letters"),
    ({"users": ["a b"]}, "users: the name 'a b': it may have letters"),
    ({"domains.all": {"near": {**RAW, "folder": "."}}}, "domains.all.near: '.': it holds"),
    (
        {"domains.all": {"near": {**RAW, "folder": "a/../../"}}},
        "domains.all.near: 'a/../../': it holds this checkout, and so all outputs; give the",
    ),
    ({"domains.all": {"near": {**RAW, "folder": '"; rm x'}}}, """domains.all.near: '"; rm x': a"""),
    ({"domains.all": {"near": {**RAW, "covers": "$(x)"}}}, "domains.all.near: '$(x)': a path may"),
    ({"domains.text.near": {**RAW, "language": "zh"}}, "'near' in domains.text: it must stand"),
    ({"domains.image.near": {**RAW, "folder": "other"}}, "'near' in domains.image: it must stand"),
    ({"domains.image.new": RAW}, "'new' in domains.image: it must stand alike in domains.all"),
    (
        {f"domains.{part}.near": {**RAW, "covers": ""} for part in ["all", "text", "image"]},
        "'near' in domains.image has covers: '': name its folder of covers, or take it out",
    ),
    ({"domains.both.new": RAW}, "'new' in domains.both: domains.text lists ['harbor', 'near'"),
    (
        {"domains.image.cold": None, "contents": ["text"]},
        "'cold' in domains.both: domains.image lists ['harbor', 'near', 'far']",
    ),
    (
        {"domains.text": {}, "domains.both": {}, "contents": ["text"]},
        "contents: ['text'], but domains.text lacks ['harbor', 'near', 'far', 'cold']",
    ),
    (
        {"domains.both.near": None},
        "contents: ['both'], but domains.both lacks ['near']: list them in domains.both, or take "
        "'both' out of contents",
    ),
    ({"origins.image": None}, "domains.image: ['harbor', 'near', 'far', 'cold']: origins has no"),
    ({"origins.text": None}, "domains.text: ['harbor', 'near', 'far', 'cold']: origins has no"),
    ({"encoders.image": None}, "origins: ['text', 'image']: encoders names no image encoder"),
    (
        {"origins.text": None, "domains.text": {}, "domains.both": {}, "contents": ["text"]},
        "contents: ['text']: origins has no text encoder",
    ),
    ({"runs.frozen": ["id"]}, "runs.frozen: 'id': it may list ['frozen', 'frozen_paper']"),
    ({"runs.end2end": ["frozen"]}, "runs.end2end: 'frozen': it may list ['end2end']"),
    (
        {"runs.frozen_transfer": ["tuned_transfer"]},
        "runs.frozen_transfer: 'tuned_transfer': it may list ['frozen_transfer', 'frozen_zero",
    ),
    (
        {"runs.pretrain_frozen": []},
        "runs.frozen_transfer: ['frozen_transfer', 'frozen_zeroshot'], but runs.pretrain_frozen: "
        "[]: list what they start from in runs.pretrain_frozen, or take them out",
    ),
    ({"runs.pretrain_end2end": []}, "runs.tuned_transfer: ['tuned_transfer', 'tuned_zeroshot'], b"),
    (
        {"runs.pretrain_end2end": [], "runs.tuned_transfer": []},
        "runs.end2end_transfer: ['end2end_transfer'], but runs.pretrain_end2end: []",
    ),
    ({"seeds": [0, 1, 0]}, "seeds: [0, 1, 0]: one is listed twice"),
    (
        {"training.loss": "softmax"},
        "training.loss: 'softmax' is not one of in_batch, bce, gbce, bpr, sampled_softmax, full",
    ),
    ({"training.loss": "full_softmax"}, "training.loss: full_softmax needs every item's vector"),
    (
        {"training.loss": "full_softmax", "runs.end2end": [], "runs.end2end_transfer": []},
        "training.loss: full_softmax needs every item's vector",  # pre-training encodes them
    ),
    (
        {"report.contrasts": [["end2end", "id"], ["end2end", "frozn"]]},
        "report.contrasts: ['end2end', 'frozn']: the run 'frozn': it may name ['id', 'frozen', "
        "'frozen_paper', 'end2end', 'frozen_transfer', 'tuned_transfer', 'end2end_transfer', "
        "'frozen_zeroshot', 'tuned_zeroshot', 'popularity', 'itemknn', 'contentknn']",
    ),
    (
        {"report.contrasts": [["id", "id"]]},
        "report.contrasts: ['id', 'id']: a run minus itself is always 0; name two different",
    ),
    (
        {"report.contrasts": [["frozen", "both/frozen"]]},  # what one side names holds for both
        "report.contrasts: ['frozen', 'both/frozen']: a run minus itself is always 0; name two",
    ),
    (
        {"report.contrasts": [["both/id", "text/id"]]},  # ids have no content
        "report.contrasts: ['both/id', 'text/id']: a run minus itself is always 0",
    ),
    (
        {"report.contrasts": [["gru4rec/contentknn", "sasrec/contentknn"]]},
        "report.contrasts: ['gru4rec/contentknn', 'sasrec/contentknn']: a run minus itself",
    ),
    (
        {"report.contrasts": [["both//frozen", "text/frozen"]]},
        "report.contrasts: ['both//frozen', 'text/frozen']: a name before or behind a / is mis",
    ),
    (
        {"report.contrasts": [["both/frozen", "texts/frozen"]]},
        "report.contrasts: ['both/frozen', 'texts/frozen']: 'texts': before a run may stand a "
        "content of ['text', 'image', 'both'], a user encoder of ['sasrec', ",
    ),
    (
        {"report.contrasts": [["sasrec/both/frozen", "id"]]},
        "report.contrasts: ['sasrec/both/frozen', 'id']: 'sasrec/both': before a run may stand",
    ),
    (
        {"report.contrasts": [["both/frozen", "id"], ["id", "both/frozen"]]},
        "report.contrasts: ['id', 'both/frozen']: the difference is listed twice",
    ),
    (
        {"report.contrasts": [["id", "frozen"], ["frozen", "id"]]},
        "report.contrasts: ['frozen', 'id']: the difference is listed twice",
    ),
    (
        {"encoders.image": {"library": "timm", "model": "a", "preprocess": {"size": 96}}},
        "encoders.image.preprocess: the key 'size': DVC looks past nfiles and size, so that a",
    ),
    ({"targets": ["size"], "domains.all.size": RAW}, "domains.all: the name 'size': DVC looks"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_lists_that_do_not_agree_stop_and_say_which(changes, message):
    with pytest.raises(files.Stop, match=re.escape("params.yaml: " + message)):
        agreement.check(changed(changes))


GOOD = [
    {},
    {"report.contrasts": []},
    {"model.width": 63, "users": ["gru4rec"]},  # which has no heads
    {"training.loss": "full_softmax", "runs.end2end": [], "sources": []},
    {
        "training.loss": "full_softmax",
        "runs.end2end": [],
        "runs.pretrain_end2end": [],
        "runs.tuned_transfer": [],
        "runs.end2end_transfer": [],
    },
    {"training.loss": "full_softmax", "contents": []},  # ids alone
    {"report.contrasts": [["frozen", "popularity"], ["tuned_zeroshot", "frozen_zeroshot"]]},
    {"report.contrasts": [["both/frozen", "text/frozen"], ["gru4rec/id", "both/sasrec/frozen"]]},
    {"sources": []},
    {"sources": [], "runs.pretrain_frozen": [], "runs.pretrain_end2end": []},
    {"contents": ["text", "image", "both"]},
    {"contents": ["text"], "domains.image": {}, "domains.both": {}, "origins.image": None},
    {
        "contents": ["text"],
        "domains.image": {},
        "domains.both": {},
        "origins.image": None,
        "encoders.image": None,
    },
    {"contents": ["image"], "domains.text": {}, "domains.both": {}, "origins.text": None},
    {"runs.frozen": ["frozen", "frozen_paper"], "runs.end2end": []},
    {"demo": []},
    {"contents": [], **{f"domains.{part}": {} for part in ("text", "image", "both")}},
]


@pytest.mark.parametrize("changes", GOOD, ids=str)
def test_lists_that_agree_pass(changes):
    agreement.check(changed(changes))


def test_without_contents_there_is_nothing_to_report():
    lists.check_report(changed({}).contents)
    with pytest.raises(files.Stop, match=r"contents: \[\]: name at .*`dvc repro baseline`$"):
        lists.check_report(changed({"contents": []}).contents)


MINE = {"near": {**RAW, "folder": "mine/near", "covers": "mine/near_cover"}}
OWN = {  # one's own data, without the demo
    "demo": [],
    "sources": [],
    "targets": ["near"],
    **{f"domains.{part}": MINE for part in SHIPPED["domains"]},
    "origins.image": "mine/encoder",
    "encoders.image": "mine/encoder",
}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"origins.image": "artifacts/demo/encoder"}, "origins.image: 'artifacts/demo/encoder'"),
        ({"origins.image": "./artifacts/demo/encoder/model.bin"}, "origins.image: './artifacts"),
        (
            {f"domains.{part}": {"near": RAW} for part in SHIPPED["domains"]},
            f"domains.all.near.folder: {RAW['folder']!r}",
        ),
        (
            {
                f"domains.{part}": {"near": {**MINE["near"], "covers": RAW["covers"]}}
                for part in SHIPPED["domains"]
            },
            f"domains.all.near.covers: {RAW['covers']!r}",
        ),
    ],
)
def test_without_the_demo_nothing_of_it_is_left_behind(changes, named):
    made = lists.generated(ROOT / lists.FLOW)
    with pytest.raises(files.Stop, match=re.escape(f"params.yaml: demo: [], but {named}")) as stop:
        agreement.check(changed({**OWN, **changes}), made)
    assert str(stop.value).endswith(" is the demo's: name your own, or write demo: [demo]")
    agreement.check(changed({**OWN, **changes, "demo": ["demo"]}), made)


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("domains.all.near.folder", {"folder": "no/such"}),
        ("domains.image.near.covers", {"covers": "no/such"}),
    ],
)
def test_a_path_that_leads_nowhere_is_named_with_its_key(key, changes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    raw = {**RAW, "folder": "there", "covers": "there", **changes}
    named = {f"domains.{part}": {"near": raw} for part in SHIPPED["domains"]}
    made = lists.generated(ROOT / lists.FLOW)
    (tmp_path / "requirements.txt").touch()
    said = f"params.yaml: {key}: 'no/such': there is nothing at {tmp_path}/no/such; correct it"
    with pytest.raises(files.Stop, match=re.escape(said)):
        agreement.check_paths(changed(named), made)
    (tmp_path / "no/such").mkdir(parents=True)
    agreement.check_paths(changed(named), made)
    (tmp_path / "requirements.txt").unlink()
    with pytest.raises(
        files.Stop, match=r"origins\.text: 'requirements\.txt': there is nothing at"
    ):
        agreement.check_paths(changed(named), made)


@pytest.mark.parametrize(
    "encoder",
    ["{}/mine", "timm:{}/mine", {"library": "timm", "model": "x", "weights": "{}/mine/net.bin"}],
)
def test_a_local_encoder_is_what_its_origin_names(encoder, tmp_path):
    """DVC sees a change of the origin alone."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "net.bin").touch()
    if isinstance(encoder, dict):
        encoder = {key: value.format(tmp_path) for key, value in encoder.items()}
    else:
        encoder = encoder.format(tmp_path)
    for origin in (folder, tmp_path, folder / "net.bin"):
        agreement.check(changed({"encoders.image": encoder, "origins.image": str(origin)}))
    named = rf"encoders.image reads .*{tmp_path}/mine.*, but origins.image: 'requirements.txt'"
    with pytest.raises(files.Stop, match=named):
        agreement.check(changed({"encoders.image": encoder, "origins.image": "requirements.txt"}))


def test_ones_own_data_need_no_demo():
    agreement.check(changed(OWN), lists.generated(ROOT / lists.FLOW))


def test_ids_alone_need_no_content_and_no_source():
    """As README says, under interactions without content."""
    ids = {**OWN, "contents": [], "origins": {}}
    ids |= {f"domains.{part}": {} for part in ("text", "image", "both")}
    del ids["origins.image"]
    agreement.check(changed(ids), lists.generated(ROOT / lists.FLOW))
    with pytest.raises(files.Stop, match=r"'harbor' in sources or targets: .* \['near'\]"):
        agreement.check(changed({**ids, "sources": ["harbor"]}))


def test_what_the_demo_writes_stands_in_the_flow(tmp_path):
    flow = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    expected = [*flow["demo"]["outs"], *flow["demo_encoder"]["outs"]]
    assert lists.generated(ROOT / lists.FLOW) == expected
    assert lists.generated(tmp_path / "dvc.yaml") == []


def test_without_images_no_domain_needs_covers():
    bare = {name: {**raw, "covers": ""} for name, raw in SHIPPED["domains"]["all"].items()}
    domains = {"domains.all": bare, "domains.text": bare, "domains.image": {}, "domains.both": {}}
    agreement.check(changed({"contents": ["text"], **domains}))


def test_runs_are_named_in_the_order_of_every_table_with_id_first():
    runs = changed({"runs.frozen": ["frozen_paper", "frozen"]}).runs
    assert runs.names(["harbor"]) == [*kinds.RUNS]
    assert runs.names([]) == ["id", "frozen", "frozen_paper", "end2end"]
    fewer = changed({"runs.frozen_transfer": ["frozen_zeroshot"], "runs.end2end": []}).runs
    assert "frozen_transfer" not in fewer.names(["harbor"])
    assert "end2end" not in fewer.names(["harbor"])


@pytest.mark.parametrize(
    ("changes", "sources", "encodes"),
    [
        ({}, ["harbor"], True),
        ({"end2end": []}, ["harbor"], True),
        ({"end2end": [], "end2end_transfer": []}, ["harbor"], True),  # the source's own training
        ({"end2end": [], "pretrain_end2end": []}, ["harbor"], True),
        ({"end2end": []}, [], False),  # without a source nothing starts from it
        ({"end2end": [], "pretrain_end2end": [], "end2end_transfer": []}, ["harbor"], False),
    ],
)
def test_runs_tell_whether_an_encoder_trains(changes, sources, encodes):
    runs = changed({f"runs.{field}": listed for field, listed in changes.items()}).runs
    assert runs.encodes(sources) == encodes
