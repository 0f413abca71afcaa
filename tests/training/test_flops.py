import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils import flop_counter

from pipeline.content import store
from pipeline.data import files
from pipeline.models import items, recommender
from pipeline.models.gru4rec import Gru4rec, Gru4recSettings
from pipeline.models.rows import UserEncoder
from pipeline.models.sasrec import Sasrec
from pipeline.training import flops, objective
from tests.small_domains import LENGTH, PLAN, SASREC, chain, divided, feed
from tests.training.conftest import contents, run_in, work

N_ITEMS, D, USERS = 12, 8, 6


class Linear(UserEncoder):
    """A user encoder whose operations are counted by hand."""

    def __init__(self):
        super().__init__()
        self.map = torch.nn.Linear(D, D, bias=False)

    def forward(self, vectors, rows):
        return self.map(vectors)


def parts():
    return divided(chain(20, N_ITEMS, seed=0, predictable=0.5), N_ITEMS)


def count(model, loss="in_batch"):
    return flops.of_step(model, parts(), PLAN._replace(batch_users=USERS, loss=loss))


@pytest.mark.parametrize("loss", ["in_batch", "full_softmax"])
def test_a_step_counted_by_hand(loss):
    """P slots, M items: a product with the map, one with all items, and two more each backward."""
    found = parts()
    rows = np.split(found.train.items, found.train.offsets[1:-1])
    batch = feed(rows, N_ITEMS, loss, n_users=USERS).batch(0, 0)
    P, M = len(batch.inputs), len(batch.items)
    model = recommender.Recommender(items.IdTower(N_ITEMS, D), Linear())
    assert count(model, loss) == 3 * 2 * P * D * D + 3 * 2 * P * M * D


def test_a_recurrent_net_counts():
    """Six maps a slot, three of the item and three of the state; none leads back to no state."""
    found = parts()
    batch = feed(np.split(found.train.items, found.train.offsets[1:-1]), N_ITEMS, n_users=USERS)
    P, M = (len(getattr(batch.batch(0, 0), name)) for name in ("inputs", "items"))
    gru = Gru4rec(D, LENGTH, Gru4recSettings(layers=1, dropout=0.0))
    counted = count(recommender.Recommender(items.IdTower(N_ITEMS, D), gru))
    assert counted == 2 * D * D * (3 * 6 * P - 3 * USERS) + 3 * 2 * P * M * D


def test_attention_on_a_cpu_counts():
    """Two products of 2 x 3 heads, 5 x 5 pairs, 4 numbers; backward three more, and one again."""
    q, k, v = torch.randn(3, 2, 3, 5, 4, requires_grad=True).unbind()
    product = 2 * (2 * 3) * 5 * 5 * 4
    with flop_counter.FlopCounterMode(display=False, custom_mapping=flops.UNKNOWN) as counter:
        made = F.scaled_dot_product_attention(q, k, v)
    assert counter.get_total_flops() == 2 * product
    with flop_counter.FlopCounterMode(display=False, custom_mapping=flops.UNKNOWN) as counter:
        made.sum().backward()
    assert counter.get_total_flops() == 5 * product


@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_count_by_their_groups(groups, stride, is_transposed):
    """At each place of 3 x 3 weights, and as much for each of the two gradients."""
    convolve = F.conv_transpose2d if is_transposed else F.conv2d
    inputs = torch.randn(2, 8, 6, 6, requires_grad=True)
    weight = torch.randn(8, 8 // groups, 3, 3, requires_grad=True)
    bias = torch.randn(8, requires_grad=True)  # whose gradient is a sum
    with flop_counter.FlopCounterMode(display=False, custom_mapping=flops.UNKNOWN) as counter:
        made = convolve(inputs, weight, bias, padding=1, stride=stride, groups=groups)
        made.sum().backward()
    places = (inputs if is_transposed else made)[0, 0].numel()
    assert counter.get_total_flops() == 3 * (2 * 2 * places * 8 * (8 // groups) * 3 * 3)


def test_nothing_of_the_model_changes_and_nothing_is_drawn():
    settings = SASREC.model_copy(update={"dropout": 0.5})
    model = recommender.Recommender(items.IdTower(N_ITEMS, D), Sasrec(D, LENGTH, settings))
    model.eval()
    gradient = torch.ones_like(model.tower.table.weight)
    model.tower.table.weight.grad = gradient
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    first = count(model)
    assert first > 0 and count(model) == first
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert model.tower.table.weight.grad is gradient and (gradient == 1).all()
    assert all(p.grad is None for p in model.users.parameters())
    assert not any(module.training for module in model.modules())


def test_a_run_is_not_lost_where_memory_is_too_small_to_count(monkeypatch, capsys):
    def fail(*_):
        raise torch.OutOfMemoryError

    model = recommender.Recommender(items.IdTower(N_ITEMS, D), Linear())
    monkeypatch.setattr(objective, "loss", fail)
    assert count(model) is None
    assert "flops: memory is too small" in capsys.readouterr().err


def test_compiled_parts_are_counted_as_the_others():
    model = recommender.Recommender(items.IdTower(N_ITEMS, D), Sasrec(D, LENGTH, SASREC))
    expected = count(model)
    objective.compile_parts(model, backend="aot_eager")
    assert count(model) == expected


@pytest.fixture(scope="module")
def costs(target, public, tmp_path_factory):
    """What three runs on one domain cost, and the folders."""
    found = {}
    for run in ("id", "frozen", "end2end"):
        root = tmp_path_factory.mktemp(run)
        out = run_in(root, work(run, target, public))
        found[run] = (files.read_json(root / "cost.json"), out)
    return found


def test_a_run_says_what_its_steps_epochs_and_artifacts_took(costs, target):
    ids, frozen, end2end = (costs[run][0] for run in ("id", "frozen", "end2end"))
    assert frozen["probe_step_flops"] == end2end["probe_step_flops"] > ids["probe_step_flops"] > 0
    assert end2end["joint_step_flops"] > end2end["probe_step_flops"]
    assert "joint_step_flops" not in frozen
    for cost, out in costs.values():
        assert cost["run_bytes"] == sum(map(len, contents(out).values()))
        assert 0 < cost["best_epoch_seconds"] <= cost["seconds"]
        assert cost["probe_epoch_seconds"] == cost["probe_seconds"] / 2  # of 2 epochs
    assert end2end["joint_epoch_seconds"] == end2end["joint_seconds"]  # of one
    vectors = [one.vectors for one in store.load(target.embedded).values()]
    assert frozen["embeddings_bytes"] == sum(one.size * 4 for one in vectors)
    assert (ids["embeddings_bytes"], ids["prefix_bytes"], frozen["prefix_bytes"]) == (0, 0, 0)
    kept = [*costs["end2end"][1].parent.rglob("activations.bin")]
    assert end2end["prefix_bytes"] == sum(path.stat().st_size for path in kept) > 0


def test_a_run_that_trains_nothing_has_no_steps(target, pretrained, public, tmp_path):
    source, embedded = pretrained["frozen"]
    made = work("frozen_zeroshot", target, public, pretrained=source, embedded=embedded)
    run_in(tmp_path, made)
    cost = files.read_json(tmp_path / "cost.json")
    assert not {"probe_step_flops", "best_epoch_seconds"} & {*cost}
    assert cost["run_bytes"] > 0
