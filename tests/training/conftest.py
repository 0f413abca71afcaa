"""A source and a target with tiny encoders, embedded as the stages do it."""

from typing import NamedTuple

import numpy as np
import pytest

from pipeline.content import embed, encoders
from pipeline.data import kinds
from pipeline.training import grid, loop, runs, trials
from pipeline.training.inputs import Inputs
from tests import small_domains
from tests.content.conftest import WORDS
from tests.small_content import *  # noqa: F403  # fixtures

N_ITEMS = 24
RATE = 1e-2
POINT = grid.Point(RATE, 0.01, 1e-3)
AXES = {
    "learning_rate": [0.01, 0.02],
    "weight_decay": [0.1, 0.2],
    "encoder_learning_rate": [1e-3, 1e-4],
}


class Domain(NamedTuple):
    """Where a domain's artifacts are."""

    prepared: object
    covers: object
    embedded: object  # by the public encoders: text, image and both


def embed_all(domain, encoder_folder, out):
    """Embed both modalities by the encoders of a folder, as a joint artifact."""
    found = {m: encoders.load(encoder_folder / m) for m in ("text", "image")}
    jobs = {
        m: embed.Job(e, embed.content(e, domain.prepared, domain.covers)) for m, e in found.items()
    }
    machine = small_domains.settings().machine
    embed.run(jobs, True, out, out.with_suffix(".json"), out.with_suffix(".scratch"), machine)
    return out


def make_domain(folder, public, seed):
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 5))) for _ in range(N_ITEMS)]
    texts[3] = texts[7] = None
    histories = small_domains.chain(40, N_ITEMS, seed, predictable=0.9)
    prepared = small_domains.prepare(folder / "prepared", histories, texts)
    covers = folder / "covers"
    covers.mkdir()
    np.save(covers / "pixels.npy", rng.integers(0, 256, (N_ITEMS - 2, 32, 32, 3), dtype=np.uint8))
    rows = np.full(N_ITEMS + 1, -1, np.int32)
    rows[np.setdiff1d(np.arange(1, N_ITEMS + 1), [4, 11])] = np.arange(N_ITEMS - 2)
    np.save(covers / "rows.npy", rows)
    domain = Domain(prepared, covers, folder / "embed")
    embed_all(domain, public, domain.embedded)
    return domain


@pytest.fixture(scope="session")
def target(public, tmp_path_factory):
    return make_domain(tmp_path_factory.mktemp("target"), public, seed=1)


@pytest.fixture(scope="session")
def source(public, tmp_path_factory):
    return make_domain(tmp_path_factory.mktemp("source"), public, seed=0)


def work(run, domain, public, content="both", pretrained=None, embedded=None, **changes):
    """A run on a domain: from scratch, or from a pre-trained model with its embeddings."""
    settings = small_domains.settings(runs.SETTINGS[kinds.RUNS[run].vectors], **changes)
    if run == "id":
        name = runs.Name("id", "target", "id", "sasrec")
        return runs.Work(name, Inputs(domain.prepared), settings)
    embedded = embedded or domain.embedded
    inputs = Inputs(
        domain.prepared,
        embedded if content == "both" else embedded / content,
        public if pretrained is None else pretrained / "encoder",
        domain.covers,
        pretrained,
    )
    return runs.Work(runs.Name(run, "target", content, "sasrec"), inputs, settings)


def run_in(folder, made):
    """Do a run; return its folder. Its cost is cost.json beside."""
    trials.run(made, folder / "out", folder / "cost.json", folder / "scratch")
    return folder / "out"


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def vectors_of(made, model):
    return model.item_vectors(np.arange(25) > 0, 16)


def counted_steps(monkeypatch):
    """Note the phase of every step from now on."""
    steps = []
    real = loop.Phase.step
    monkeypatch.setattr(
        loop.Phase,
        "step",
        lambda phase, batch: steps.append(phase.plan.phase) or real(phase, batch),
    )
    return steps


@pytest.fixture(scope="session")
def pretrained(source, target, public, tmp_path_factory):
    """By tower: the source's model, and the target's embeddings by its encoders."""
    made = {}
    for tower in ("frozen", "end2end"):
        folder = tmp_path_factory.mktemp(tower)
        own = small_domains.settings().end2end.model_dump()
        # So much that the best epoch is one in which the encoders have learned.
        own |= {"probe": False, "learning_rate": 1e-2, "epochs": 6, "patience": 6}
        changes = {"protocol__select": "ndcg@10"} | ({"end2end": own} if tower == "end2end" else {})
        out = run_in(folder, work(tower, source, public, seeds=[7], **changes))
        embedded = target.embedded
        if tower == "end2end":
            embedded = embed_all(target, out / "encoder", folder / "tuned")
        made[tower] = (out, embedded)
    return made
