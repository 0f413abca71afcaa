"""What a run reads must belong together, whatever a stage is given by hand."""

import pytest

from pipeline.content import encoders
from pipeline.data import files, scratch
from pipeline.training import runs
from pipeline.training.inputs import Inputs
from tests import small_domains
from tests.training.conftest import contents, run_in, work

VECTORS = {"items.npy", "queries_valid.npy", "queries_test.npy"}


def test_embeddings_of_another_content_stop(target, public):
    made = work("frozen", target, public)
    name = made.name._replace(content="text")
    with pytest.raises(
        files.Stop, match=r"/embed has embeddings of image and text, and the content is text: name"
    ):
        runs.Work(name, made.inputs, made.settings)


@pytest.mark.parametrize("items", [20, 30])
def test_embeddings_of_another_item_table_stop(items, target, public, tmp_path):
    histories = small_domains.chain(40, items, 1, predictable=0.9)
    texts = [f"t{i}" for i in range(items)]
    other = small_domains.prepare(tmp_path / "prepared", histories, texts)
    with pytest.raises(files.Stop, match=rf"/embed has vectors of 24 items, and .* has {items}: "):
        work("frozen", target._replace(prepared=other), public)


def test_encoders_that_did_not_make_the_embeddings_stop(target, public, tmp_path):
    for modality in ("text", "image"):
        encoder = encoders.load(public / modality)
        if modality == "text":
            next(encoder.parameters()).data += 1e-3
        encoders.save(encoder, tmp_path / modality)
    made = work("end2end", target, tmp_path)
    with pytest.raises(files.Stop, match=r"the encoder in .*/text is not the one that made .*/emb"):
        made.unfrozen(0)
    assert {*work("end2end", target, public).unfrozen(0)} == {"text", "image"}


def start(target, public, pretrained, **changes):
    folder, embedded = pretrained["frozen"]
    made = work("frozen_transfer", target, public, "both", folder, embedded, **changes)
    return made.start(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"user_encoders__sasrec__heads": 4}, r"has user_encoders .*'heads': \d.*pre-train again"),
        ({"user_encoders__sasrec__norm": "post"}, r"has user_encoders .*'norm': 'pre'.*'post'"),
        ({"tower__head__standardise": "none"}, r"has head .*'standardise': 'dimension'"),
    ],
)
def test_a_model_that_was_shaped_otherwise_starts_nothing(
    changes, message, target, public, pretrained
):
    with pytest.raises(files.Stop, match=message):
        start(target, public, pretrained, **changes)


@pytest.mark.parametrize(
    "changes", [{}, {"user_encoders__sasrec__dropout": 0.5}, {"tower__modality_dropout": 0.3}]
)
def test_how_a_model_learned_may_differ(changes, target, public, pretrained):
    start(target, public, pretrained, **changes)


def test_a_folder_without_a_model_says_so(target, public, tmp_path):
    made = work("frozen_transfer", target, public, "both", tmp_path, target.embedded)
    with pytest.raises(files.Stop, match=r"holds no pre-trained model: .*model.json is missing"):
        made.start(0)


def test_a_folder_without_a_domain_says_so(target, public, tmp_path):
    with pytest.raises(files.Stop, match=r"holds no prepared domain: .*items.parquet is missing"):
        work("frozen", target._replace(prepared=tmp_path / "nowhere"), public)


def test_a_sources_model_comes_without_the_vectors_that_nobody_retrieves_by(
    source, public, tmp_path
):
    made = {}
    for name, is_source in (("source", True), ("target", False)):
        one = work("frozen", source, public)
        one.is_source = is_source
        made[name] = contents(run_in(tmp_path / name, one))
    assert made["target"].keys() - made["source"].keys() == VECTORS
    assert all(made["target"][name] == made["source"][name] for name in made["source"])


def test_what_a_run_reads_is_hashed_once(target, public, tmp_path, monkeypatch):
    hashed = []
    real = scratch.state
    monkeypatch.setattr(scratch, "state", lambda *a: hashed.append(a) or real(*a))
    axes = {"learning_rate": [], "weight_decay": [0.1, 0.2], "encoder_learning_rate": [0.1, 0.2]}
    run_in(tmp_path, work("frozen", target, public, search=axes))
    assert len(hashed) == 1


@pytest.mark.parametrize(
    ("run", "is_shared"), [("id", False), ("frozen_paper", False), ("frozen", True)]
)
def test_a_first_phase_that_no_other_run_has_goes_with_its_run(
    run, is_shared, target, public, tmp_path
):
    run_in(tmp_path, work(run, target, public))
    left = [*(tmp_path / "scratch").rglob("state.pt")]
    assert bool(left) == is_shared


def test_points_that_nearly_agree_have_a_checkpoint_each(target, public, tmp_path):
    rates = [1.0e-3, 1.00000012e-3]
    axes = {"learning_rate": rates, "weight_decay": [], "encoder_learning_rate": []}
    run_in(tmp_path, work("frozen", target, public, search=axes))
    assert len([*(tmp_path / "scratch").rglob("state.pt")]) == 2


def test_inputs_that_decide_are_those_that_are_there(tmp_path):
    assert Inputs(tmp_path).decisive() == [tmp_path]
