"""Every model learns a chain of items under every loss, and stays at chance on noise."""

import functools

import numpy as np
import pytest
import torch

from pipeline.content import store
from pipeline.models import items, recommender, users
from pipeline.models.sasrec import Sasrec
from pipeline.retrieval import metrics, search
from pipeline.training import loop, losses
from pipeline.training.checkpoint import Keeper
from tests.small_domains import LENGTH, NEGATIVES, OTHERS, PLAN, SASREC, chain, divided

N_ITEMS = 60
LONG = PLAN._replace(epochs=40, patience=4, select="ndcg@10")


def id_model():
    torch.manual_seed(0)
    return recommender.Recommender(items.IdTower(N_ITEMS, 16), Sasrec(16, LENGTH, SASREC))


def frozen_model():
    """A model on random embeddings of its items, which tell one from another."""
    torch.manual_seed(0)
    vectors = np.random.default_rng(0).normal(0, 0.05, (N_ITEMS + 1, 24)).astype(np.float32)
    present = np.arange(N_ITEMS + 1) > 0
    mean, sd, scale = store.statistics(vectors, present)
    measured = mean.astype(np.float32), sd.astype(np.float32), scale
    embedded = {"text": store.Embedded(vectors, present, *measured)}
    settings = items.HeadSettings(standardise="dimension", layers=2, expansion=4)
    head = items.Fusion(embedded, 16, settings, "sum")
    return recommender.Recommender(
        items.FrozenTower(embedded, head, 0.1), Sasrec(16, LENGTH, SASREC)
    )


def post_norm_model():
    """Ids under NineRec's SASRec."""
    torch.manual_seed(0)
    settings = SASREC.model_copy(update={"norm": "post", "activation": "relu", "blocks": 2})
    return recommender.Recommender(items.IdTower(N_ITEMS, 16), Sasrec(16, LENGTH, settings))


ENCODERS = users.UserEncoders.model_validate({"sasrec": SASREC, **OTHERS})


def model_of(name):
    """Ids under a user encoder."""
    torch.manual_seed(0)
    encoder = users.build(name, 16, LENGTH, ENCODERS)
    return recommender.Recommender(items.IdTower(N_ITEMS, 16), encoder)


def hits(model, parts, k):
    """HR@K on the test."""
    vectors = model.item_vectors(parts.candidates, 64)
    queries = model.queries(parts.test.histories, vectors)
    return metrics.hit(search.rank(queries, vectors, parts.test, parts.candidates, 10), k).mean()


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_a_chain_is_learned(loss, tmp_path):
    parts = divided(chain(300, N_ITEMS, seed=0), N_ITEMS)
    model = id_model()
    fitted = loop.fit(model, parts, LONG._replace(loss=loss), 0, Keeper(tmp_path, 60), 64)
    # By chance 10 of at least 52 items: 0.19; the first alone: 0.02.
    assert fitted.curve[0].hr < 0.35
    assert fitted.best.hr > 0.95
    assert hits(model, parts, 10) > 0.95
    assert hits(model, parts, 1) > 0.7


@pytest.mark.parametrize("make", [frozen_model, post_norm_model])
def test_every_model_learns_the_chain(make, tmp_path):
    parts = divided(chain(300, N_ITEMS, seed=0), N_ITEMS)
    model = make()
    fitted = loop.fit(model, parts, LONG, 0, Keeper(tmp_path, 60), 64)
    assert fitted.curve[0].hr < 0.35
    assert hits(model, parts, 10) > 0.95
    assert hits(model, parts, 1) > 0.7


PAIRS = [(name, "in_batch") for name in OTHERS] + [
    ("bert4rec", loss) for loss in losses.LOSSES if loss != "in_batch"
]


@pytest.mark.parametrize(("name", "loss"), PAIRS)
def test_every_user_encoder_learns_the_chain_and_bert4rec_under_every_loss(name, loss, tmp_path):
    parts = divided(chain(300, N_ITEMS, seed=0), N_ITEMS)
    model = model_of(name)
    several = NEGATIVES.model_copy(update={"number": 8})
    plan = LONG._replace(loss=loss, negatives=several)
    fitted = loop.fit(model, parts, plan, 0, Keeper(tmp_path, 60), 64)
    assert fitted.curve[0].hr < 0.35
    assert hits(model, parts, 10) > 0.95
    assert hits(model, parts, 1) > 0.7


@pytest.mark.parametrize(
    ("loss", "make"),
    [(loss, id_model) for loss in losses.LOSSES]
    + [("in_batch", frozen_model), ("in_batch", post_norm_model)]
    + [("in_batch", functools.partial(model_of, name)) for name in OTHERS],
)
def test_noise_stays_at_chance(loss, make, tmp_path):
    parts = divided(chain(600, N_ITEMS, seed=0, predictable=0.0), N_ITEMS, mask="none")
    model = make()
    plan = LONG._replace(loss=loss, epochs=6)
    loop.fit(model, parts, plan, 0, Keeper(tmp_path, 60), 64)
    # HR@10 of 600 users: 1/6, with a standard deviation of 0.015.
    assert hits(model, parts, 10) == pytest.approx(1 / 6, abs=4 * 0.0152)
