"""A step and a validation on a GPU that is not there: devices, dtypes, and who waits for whom."""

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from pipeline.content import device, prefix
from pipeline.data import sequences
from pipeline.models import items, recommender, rows, users
from pipeline.retrieval import search
from pipeline.training import loop, losses, objective
from pipeline.training.checkpoint import Keeper
from tests.fake_gpu import *  # noqa: F403  # the fixture
from tests.fake_gpu import GPU
from tests.models.test_items import WIDTH, towers
from tests.small_domains import LENGTH, OTHERS, PLAN, SASREC, chain, divided, feed
from tests.training.conftest import run_in, work

CPU, ANY = torch.device("cpu"), torch.device("cuda")
ROWS = [[1, 2, 4, 7, 3], [5, 6, 3, 1], [2, 6], [7, 1, 5]]
ENCODERS = users.UserEncoders.model_validate({"sasrec": SASREC, **OTHERS})


def frozen(world, folder):
    return towers(world, modality_dropout=0.3)[0]


def end2end(world, folder, micro_batch=0):
    tower = towers(world, modality_dropout=0.3)[1]
    tower.micro_batch = micro_batch
    for encoder in tower.encoders.values():
        encoder.float().unfreeze(1)
    return tower


def whole(world, folder):
    tower = end2end(world, folder)
    for encoder in tower.encoders.values():
        encoder.unfreeze("all")
    return tower


def kept(world, folder):
    """A tower on kept activations in bfloat16, as a GPU fills them."""
    tower = end2end(world, folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(device, "precision", lambda _: torch.bfloat16)
        for modality, encoder in tower.encoders.items():
            content = tower.contents[modality]
            tower.contents[modality] = prefix.keep(encoder, content, folder, CPU, "required")
    assert all(content.flat.dtype == torch.bfloat16 for content in tower.contents.values())
    return tower


def resident(world, folder):
    """The same with the activations on the GPU."""
    tower = kept(world, folder)
    for content in tower.contents.values():
        content.flat = content.flat.to(GPU)
    return tower


TOWERS = {
    "id": lambda world, folder: items.IdTower(7, WIDTH),
    "frozen": frozen,
    "end2end": end2end,
    "whole": whole,
    "micro batches": lambda world, folder: end2end(world, folder, micro_batch=2),
    "kept": kept,
    "kept on the GPU": resident,
}


def model_of(tower, name="sasrec"):
    return recommender.Recommender(tower, users.build(name, WIDTH, LENGTH, ENCODERS)).float()


def step(gpu, model, folder, loss="in_batch"):
    """The loss of a step whose gradients are made up; `gpu` counts from its batch on."""
    model = model.to(ANY)
    phase = loop.Phase(model, PLAN._replace(loss=loss), 0, Keeper(folder, 60))
    phase.optimizer.register_step_pre_hook(lambda *_: made_up(model))
    gpu.waits = 0
    return phase.step(feed(ROWS, 7, loss, masking=model.users.masking).batch(0, 0).to(ANY))


def made_up(model):
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None


@pytest.mark.parametrize("loss", losses.LOSSES)
@pytest.mark.parametrize("name", TOWERS)
def test_a_step_is_on_the_gpu_without_a_wait_its_loss_in_float32(world, loss, name, gpu, tmp_path):
    with gpu:
        value = step(gpu, model_of(TOWERS[name](world, tmp_path)), tmp_path, loss)
    assert (value.device, value.dtype) == (GPU, torch.float32)
    assert not gpu.waits


@pytest.mark.filterwarnings("ignore:Accessing the data pointer")  # a recurrent net's weights move
@pytest.mark.parametrize("name", OTHERS)
def test_every_user_encoder_steps_on_the_gpu(name, gpu, tmp_path):
    with gpu:
        value = step(gpu, model_of(items.IdTower(7, WIDTH), name), tmp_path)
    assert (value.device, value.dtype) == (GPU, torch.float32)
    assert not gpu.waits


@pytest.mark.parametrize("name", ["sasrec", *OTHERS])
def test_validation_gives_torchs_spare_memory_back_before_the_search_wants_some(
    world, name, gpu, tmp_path, monkeypatch
):
    calls = []
    real = search.rank
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("given back"))
    monkeypatch.setattr(search, "rank", lambda *of: calls.append("searched") or real(*of))
    parts = divided(chain(20, 7, seed=1), 7)
    with gpu:
        objective.validate(model_of(end2end(world, tmp_path), name).to(ANY), parts, 2)
    assert calls == ["given back", "searched"]


ON_CPU = [(tower, "sasrec", loss) for tower in [*TOWERS][:-1] for loss in losses.LOSSES]


@pytest.mark.parametrize(
    ("tower", "name", "loss"), ON_CPU + [("id", name, "in_batch") for name in OTHERS]
)
def test_steps_in_bfloat16_learn_with_gradients_in_float32(
    world, tower, name, loss, tmp_path, monkeypatch
):
    """On the CPU, whose operations see every dtype and have a backward pass."""
    monkeypatch.setattr(device, "precision", lambda _: torch.bfloat16)
    torch.manual_seed(0)
    model = model_of(TOWERS[tower](world, tmp_path), name)
    phase = loop.Phase(model, PLAN._replace(loss=loss), 0, Keeper(tmp_path, 60))
    batch = feed(ROWS, 7, loss, masking=model.users.masking).batch(0, 0)
    first, *_, last = [phase.step(batch).item() for _ in range(12)]
    assert last < first
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(gradient.dtype == torch.float32 for gradient in gradients)


class Astray(rows.UserEncoder):
    """A user encoder that does something wrong to its vectors."""

    def __init__(self, wrong):
        super().__init__()
        self.layer, self.wrong = nn.Linear(WIDTH, WIDTH), wrong

    def forward(self, vectors, rows):
        return vectors + self.wrong(self.layer(vectors))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x: x + torch.arange(WIDTH), "(same|different) device"),
        (lambda x: x if x.sum() > 0 else -x, "local_scalar_dense"),
        (lambda x: x[x > 0], "nonzero"),
        (lambda x: x.index_put((x > 0,), x[0]), "nonzero"),
        (lambda x: x.scatter(0, x.argsort(0), x.float()), "scatter.src of"),
        (lambda x: x.numpy(), "can't convert cuda"),
    ],
)
def test_what_would_fail_or_wait_on_a_gpu_is_seen(wrong, message, gpu, tmp_path):
    model = recommender.Recommender(items.IdTower(7, WIDTH), Astray(wrong))
    with gpu, pytest.raises((RuntimeError, TypeError), match=message):
        step(gpu, model, tmp_path)


@pytest.mark.parametrize(
    ("wrong", "waits"),
    [
        (lambda x: x.cpu().to(GPU), 2),
        (lambda x: x.cpu().to(GPU, non_blocking=True), 1),
        (lambda x: torch.empty(x.shape).copy_(x).to(GPU, non_blocking=True), 1),
        (lambda x: x * torch.ones(WIDTH).to(GPU), 1),
        (lambda x: x.masked_fill(x > 0, 0.0), 0),
    ],
)
def test_a_copy_that_the_host_waits_for_is_counted(wrong, waits, gpu, tmp_path):
    model = recommender.Recommender(items.IdTower(7, WIDTH), Astray(wrong))
    with gpu:
        step(gpu, model, tmp_path)
    assert gpu.waits == waits


def test_item_vectors_of_all_passes_come_back_without_a_wait(world, gpu, tmp_path):
    with gpu:
        model = model_of(kept(world, tmp_path)).to(ANY)
        gpu.waits = 0
        vectors = model.item_vectors(np.arange(8) > 0, 2)
    assert vectors.shape == (8, WIDTH)
    assert not gpu.waits


@pytest.mark.parametrize("name", ["sasrec", "bert4rec", "gru4rec", "nextitnet", "hstu"])
def test_query_vectors_of_all_passes_come_back_without_a_wait(name, gpu, monkeypatch):
    monkeypatch.setattr(recommender, "USERS_A_PASS", 2)
    histories = sequences.from_rows(ROWS)
    with gpu:
        model = model_of(items.IdTower(7, WIDTH), name).to(ANY)
        gpu.waits = 0
        queries = model.queries(histories, np.ones((8, WIDTH), np.float32))
    assert queries.shape == (len(ROWS), WIDTH)
    assert not gpu.waits


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("run", ["id", "frozen", "end2end"])
def test_a_run_on_a_gpu_learns_as_on_the_cpu(run, target, public, tmp_path):
    curves = []
    for where in ("cuda", "cpu"):  # the CPU's hides all GPUs from this process
        out = run_in(tmp_path / where, work(run, target, public, machine__device=where))
        curves.append(pl.read_csv(out / "curve.csv")["loss"].to_numpy())
    np.testing.assert_allclose(*curves, rtol=0.02)  # bfloat16 beside float32
