"""The stages of runs: what they make of params.yaml and their options."""

import json

import pytest

from pipeline.training import runs, trials
from pipeline.training.inputs import Inputs
from stages import baseline, pretrain, train, transfer
from tests.small_domains import settings


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Notes the run that a stage asks for instead of doing it; params.yaml has two seeds."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(json.dumps(settings(seeds=[4, 5]).model_dump()))
    noted = []
    monkeypatch.setattr(trials, "run", lambda *args: noted.append(args))
    return noted


@pytest.fixture
def options(target, public, tmp_path):
    return dict(
        prepared=target.prepared,
        embeddings=target.embedded,
        encoders=public,
        covers=target.covers,
        out=tmp_path / "out",
        cost=tmp_path / "cost.json",
        scratch=tmp_path / "scratch",
        content="both",
        user="sasrec",
    )


def test_baseline_runs_ids(asked, options, target):
    for name in ("embeddings", "encoders", "covers", "content"):
        del options[name]
    baseline.main(target="near", **options)
    work, *paths = asked[0]
    assert work.name == runs.Name("id", "near", "id", "sasrec")
    assert work.inputs == Inputs(target.prepared)
    assert paths == [options["out"], options["cost"], options["scratch"]]


@pytest.mark.parametrize("run", ["frozen", "frozen_paper", "end2end"])
def test_train_starts_from_public_encoders(run, asked, options, target, public):
    train.main(target="near", run=run, **options)
    work = asked[0][0]
    assert work.name == runs.Name(run, "near", "both", "sasrec")
    assert work.inputs == Inputs(target.prepared, target.embedded, public, target.covers)
    assert work.settings.seeds == [4, 5]


def test_pretrain_has_one_seed(asked, options):
    pretrain.main(source="harbor", run="end2end", **options)
    work = asked[0][0]
    assert work.settings.seeds == [4]
    assert work.is_source
    assert work.inputs.pretrained is None
    assert work.name.domain == "harbor"


@pytest.mark.parametrize("run", ["tuned_transfer", "tuned_zeroshot", "end2end_transfer"])
def test_transfer_starts_from_the_sources_model_and_its_encoders(
    run, asked, options, pretrained, target
):
    folder, embedded = pretrained["end2end"]
    del options["encoders"]
    options["embeddings"] = embedded
    transfer.main(target="near", run=run, pretrained=folder, **options)
    work = asked[0][0]
    expected = Inputs(target.prepared, embedded, folder / "encoder", target.covers, folder)
    assert work.inputs == expected
    assert work.inputs.decisive() == [target.prepared, embedded, folder]
