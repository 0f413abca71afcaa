"""What a step costs, by counting: activations held, waits for the device, bytes moved to it."""

import collections

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.content import device, prefix, processes
from pipeline.data import files
from pipeline.models import items, recommender, users
from pipeline.models.sasrec import Sasrec
from pipeline.training import loop, losses, objective
from pipeline.training.checkpoint import Keeper
from tests import fake_gpu
from tests.memory import out_of_memory
from tests.models.test_items import WIDTH, towers
from tests.small_domains import LENGTH, OTHERS, PLAN, SASREC, chain, divided, feed

CPU = torch.device("cpu")
ROWS = [[1, 2, 4, 7, 3], [5, 6, 3, 1], [2, 6], [7, 1, 5]]


def end2end(world, layers, micro_batch=0):
    """A model in float64 whose encoders train, the same at every call."""
    _, tower = towers(world)
    tower.micro_batch = micro_batch
    for encoder in tower.encoders.values():
        encoder.unfreeze(layers)
    torch.manual_seed(1)
    return recommender.Recommender(tower, Sasrec(WIDTH, LENGTH, SASREC).double())


def gradients(model, loss="in_batch", rows=ROWS):
    """The loss of one batch, and its gradients by parameter."""
    model.zero_grad()
    value = objective.loss(model.train(), loss, feed(rows, 7, loss).batch(0, 0))
    value.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return value.item(), found


@pytest.mark.parametrize("loss", ["in_batch", "bce"])
@pytest.mark.parametrize("layers", [1, "all"])
@pytest.mark.parametrize("micro_batch", [1, 2, 3, 5, 100])
def test_loss_and_gradients_do_not_depend_on_the_micro_batch(world, loss, layers, micro_batch):
    value, expected = gradients(end2end(world, layers), loss)
    found, same = gradients(end2end(world, layers, micro_batch), loss)
    assert found == pytest.approx(value, abs=1e-10)
    assert same.keys() == expected.keys()
    assert any(name.startswith("tower.encoders.text") for name in same)
    for name, gradient in expected.items():
        torch.testing.assert_close(same[name], gradient, rtol=0, atol=1e-10)


def test_a_convolution_steps_by_its_gradient_in_several_processes_too(monkeypatch):
    """A fused optimizer pairs weights and gradients as they lie, and these lie channels last."""

    def step(n):
        torch.manual_seed(0)
        layer = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
        layer(torch.randn(2, 3, 8, 8)).square().sum().backward()
        monkeypatch.setattr(processes, "size", lambda: n)
        monkeypatch.setattr(processes, "summed", lambda tensor: tensor)  # the others' are 0
        objective.sum_gradients(optimizer)
        optimizer.step()
        return layer.weight

    torch.testing.assert_close(step(2), step(1), rtol=0, atol=0)


def test_a_micro_batch_encodes_so_many_items_at_once_each_twice(world):
    model = end2end(world, "all", micro_batch=2)
    content, seen = model.tower.contents["text"], []
    batch = content.batch
    content.batch = lambda items: seen.append(len(items)) or batch(items)
    gradients(model)
    # Items 1, 2, 4, 6, 7 have a text: three passes, and again for their gradients.
    assert sorted(seen) == [1, 1, 2, 2, 2, 2]
    seen.clear()
    model.tower.eval()
    with torch.no_grad():
        model.tower(torch.arange(1, 8))
    assert seen == [5]  # without gradients no activations are held


def test_a_pass_done_again_hides_what_it_hid(world):
    """With dropout, gradients by micro batches are those of the vectors that came out."""
    model = end2end(world, "all", micro_batch=2)
    for module in model.tower.encoders["text"].modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    drawn = []
    real = torch.nn.functional.dropout

    def dropout(x, p, training, inplace=False):
        made = real(x, p, training, inplace)
        if training and p == 0.5:
            drawn.append((made.detach() == 0).sum().item())
        return made

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.nn.functional, "dropout", dropout)
        torch.manual_seed(0)
        vectors = model.train().tower(torch.arange(1, 8))
        first = list(drawn)
        drawn.clear()
        torch.manual_seed(99)
        vectors.sum().backward()
    assert first and sum(first) > 0
    assert sorted(drawn) == sorted(first)


def held_bytes(model):
    """Bytes that the forward pass of a batch keeps for the backward one."""
    held = []

    def keep(tensor):
        held.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        objective.loss(model.train(), "in_batch", feed(ROWS, 7).batch(0, 0))
    return sum(held)


def test_a_micro_batch_holds_no_activations_of_the_encoder(world):
    whole, micro = (held_bytes(end2end(world, "all", n)) for n in (0, 1))
    frozen = towers(world)[0]
    torch.manual_seed(1)
    without = held_bytes(recommender.Recommender(frozen, Sasrec(8, LENGTH, SASREC).double()))
    assert whole > 5 * without
    assert micro < 2 * without


def test_compiled_parts_give_the_same_for_batches_of_any_shape(world):
    plain, made = end2end(world, 1), end2end(world, 1)
    names = [n for n, _ in made.named_parameters()]
    objective.compile_parts(made, backend="aot_eager")
    assert [n for n, _ in made.named_parameters()] == names
    for rows in (ROWS, ROWS[:2], [[1, 2], [3, 4, 5, 6, 7, 1]]):
        value, expected = gradients(plain, rows=rows)
        found, same = gradients(made, rows=rows)
        assert found == pytest.approx(value, abs=1e-10)
        for name, gradient in expected.items():
            torch.testing.assert_close(same[name], gradient, rtol=0, atol=1e-10)


WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique_dim"}


def kept(model, folder):
    """The same model on kept activations."""
    tower = model.tower
    for modality, encoder in tower.encoders.items():
        content = tower.contents[modality]
        tower.contents[modality] = prefix.keep(encoder, content, folder, CPU, "required")
    return model


class Waits(TorchDispatchMode):
    """Counts operations that make the host wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.counts = collections.Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name == "index" and fake_gpu.has_marks(args[1])
        puts = name in fake_gpu.ASSIGN and fake_gpu.by_marks(*args[:3])
        if name in WAITS or name.startswith("_unique") or by_mask or puts:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def id_model(dtype=torch.float64):
    torch.manual_seed(0)
    tower = items.IdTower(7, WIDTH)
    return recommender.Recommender(tower, Sasrec(WIDTH, LENGTH, SASREC)).to(dtype)


@pytest.mark.parametrize("loss", losses.LOSSES)
@pytest.mark.parametrize("name", ["id", "frozen", "end2end"])
def test_no_step_waits_for_the_device(world, loss, name, tmp_path):
    frozen = towers(world, modality_dropout=0.3)[0]
    model = {
        "id": id_model,
        "frozen": lambda: recommender.Recommender(frozen, Sasrec(WIDTH, LENGTH, SASREC).double()),
        "end2end": lambda: kept(end2end(world, 1), tmp_path),
    }[name]()
    phase = loop.Phase(model, PLAN._replace(loss=loss), 0, Keeper(tmp_path, 60))
    batch = feed(ROWS, 7, loss).batch(0, 0).to(CPU)
    with Waits() as waits:
        phase.step(batch)
    assert not waits.counts


@pytest.mark.parametrize("name", OTHERS)
def test_no_user_encoder_makes_a_step_wait(name, tmp_path):
    torch.manual_seed(0)
    made = users.UserEncoders.model_validate({"sasrec": SASREC, **OTHERS})
    encoder = users.build(name, WIDTH, LENGTH, made)
    model = recommender.Recommender(items.IdTower(7, WIDTH), encoder)
    phase = loop.Phase(model, PLAN, 0, Keeper(tmp_path, 60))
    batch = feed(ROWS, 7, masking=encoder.masking).batch(0, 0).to(CPU)
    with Waits() as waits:
        phase.step(batch)
    # A recurrent net's sizes of steps are read where they lie, on the CPU.
    assert {*waits.counts} <= ({"_local_scalar_dense"} if name == "gru4rec" else set())


def test_what_would_wait_is_seen():
    with Waits() as waits:
        x = torch.arange(4)
        x.max().item(), x.nonzero(), x[x > 1]
        x[x > 1] = x[:2].clone()
        x[x > 1] = 0
    seen = {"_local_scalar_dense": 1, "nonzero": 1, "index": 1, "index_put_": 1}
    assert waits.counts == seen


def small_fit(tmp_path, monkeypatch, steps):
    monkeypatch.setitem(loop.SETTLE, "cpu", steps)
    model = id_model(torch.float32)
    parts = divided(chain(40, 7, seed=0, predictable=0.9), 7, catalogue="all")
    plan = PLAN._replace(batch_users=4, epochs=2)
    return model, loop.fit(model, parts, plan, 0, Keeper(tmp_path / str(steps), 0), 8)


def test_losses_looked_at_later_are_the_same(tmp_path, monkeypatch):
    one, fitted = small_fit(tmp_path, monkeypatch, 1)
    other, later = small_fit(tmp_path, monkeypatch, 4)
    assert fitted.curve == later.curve
    assert torch.equal(one.tower.table.weight, other.tower.table.weight)


def test_a_loss_looked_at_later_still_names_its_own_step_and_rate(tmp_path, monkeypatch):
    model = id_model()
    monkeypatch.setitem(loop.SETTLE, "cpu", 50)
    phase = loop.Phase(model, PLAN._replace(warmup_steps=4), 0, Keeper(tmp_path, 60))
    fed = feed(ROWS, 7, n_users=1)
    for step in range(4):
        if step == 2:
            monkeypatch.setitem(losses.LOSSES, "in_batch", lambda q, *_: q.sum() * torch.nan)
        phase.note(phase.step(fed.batch(0, step)))
    with pytest.raises(
        files.Stop, match=r"loss is nan in probe epoch 1, step 3, at .* 0\.0075, the last"
    ):
        phase.settle()


def test_a_step_moves_places_and_no_vectors(monkeypatch):
    moved = []
    monkeypatch.setattr(device, "move", lambda tensor, _: moved.append(tensor.nbytes) or tensor)
    batch = feed(ROWS, 7).batch(0, 0).to(CPU)
    P, B, M = len(batch.inputs), batch.users, len(batch.items)
    T = batch.rows.grid.shape[1]
    # Inputs, targets, owners and steps; lengths; the grid; counts and shares; 8 bytes each.
    assert sum(moved) == 8 * (4 * P + B + B * T + 2 * M)


@pytest.mark.parametrize(("micro_batch", "tried"), [(0, 3), (4, 2), (100, 3)])
def test_too_little_memory_names_the_knob_and_what_to_try(
    world, micro_batch, tried, tmp_path, monkeypatch
):
    model = end2end(world, 1, micro_batch)

    monkeypatch.setattr(model.tower, "encode", out_of_memory)
    phase = loop.Phase(model, PLAN, 0, Keeper(tmp_path, 60))
    message = rf"32 users, 7 items, .*set machine.micro_batch_items in params.yaml to {tried}:"
    with pytest.raises(files.Stop, match=message):
        phase.step(feed(ROWS, 7).batch(0, 0))
    monkeypatch.setattr(loop.processes, "size", lambda: 2)
    each = min(4, micro_batch or 4)
    message = (
        rf"7 items by 2 processes, 4 by each, {each} of .*micro_batch_items .* to {each // 2}:"
    )
    with pytest.raises(files.Stop, match=message):
        raise phase.too_large(7)


def test_too_little_memory_for_one_item_at_once_names_what_else_there_is(world, tmp_path):
    phase = loop.Phase(end2end(world, 1, micro_batch=1), PLAN, 0, Keeper(tmp_path, 60))
    message = str(phase.too_large(7))
    assert "7 items, 1 of them at once; in" in message
    assert "lower training.batch_users or let fewer blocks train" in message
    assert "micro_batch_items" not in message


def test_too_little_memory_without_an_encoder_names_what_a_batch_holds(tmp_path, monkeypatch):
    model = recommender.Recommender(items.IdTower(7, 8), Sasrec(8, LENGTH, SASREC))
    phase = loop.Phase(model, PLAN, 0, Keeper(tmp_path, 60))

    monkeypatch.setattr(model.users, "forward", out_of_memory)
    message = r"32 users, 7 items; no encoder trains.*batch_users to 16 or lower training.n"
    with pytest.raises(files.Stop, match=message):
        phase.step(feed(ROWS, 7).batch(0, 0))
