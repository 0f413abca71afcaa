"""What a step and a validation compute, counted: each item once, no padding, nothing frozen."""

import math

import numpy as np
import pytest

from pipeline.data import sequences
from pipeline.training import batches, loop, objective
from pipeline.training.checkpoint import Keeper
from tests.small_domains import NEGATIVES
from tests.training.conftest import work

USERS = 3  # a batch: their windows hold some of the 24 items, some of them twice


class Counted:
    """An end2end run before its first step, whose encoders' work is noted from now on."""

    def __init__(self, domain, public, folder, loss="in_batch", **changes):
        made = work("end2end", domain, public, training__loss=loss, **changes)
        model = made.join(made.start(0), made.unfrozen(0), folder)
        model.tower.modality_dropout = 0.0  # which hides some items from one encoder
        plan = made.plan(made.points()[0], joint=True)
        self.made, self.tower = made, model.tower
        self.phase = loop.Phase(model, plan, 0, Keeper(folder / "phase", math.inf))
        parts = made.split
        self.feed = batches.Batches(parts.train, parts.candidates, USERS, loss, NEGATIVES, seed=0)
        self.items = {m: [] for m in self.tower.encoders}  # asked for, by modality
        self.rows = {}  # through each block, by modality and number
        self.frozen = {}  # calls of modules that hold frozen weights, by modality and name
        for modality, encoder in self.tower.encoders.items():
            self.watch_content(modality)
            for number, block in enumerate(encoder.blocks()):
                self.rows[modality, number] = 0
                # Not the block itself: of a topmost one that computes one token, parts are called.
                *_, last = (m for m in block.modules() if [*m.parameters(recurse=False)])
                last.register_forward_hook(self.counter(self.rows, (modality, number)))
            for name, module in encoder.named_modules():
                own = [*module.parameters(recurse=False)]
                if own and not any(parameter.requires_grad for parameter in own):
                    self.frozen[modality, name] = 0
                    module.register_forward_hook(self.counter(self.frozen, (modality, name)))

    def watch_content(self, modality):
        content, noted = self.tower.contents[modality], self.items[modality]
        real = content.batch
        content.batch = lambda items: noted.extend(items.tolist()) or real(items)

    @staticmethod
    def counter(counts, key):
        def count(module, given, out):
            counts[key] += len(given[0])

        return count

    def trained(self, modality):
        """Rows through each block that trains."""
        encoder = self.tower.encoders[modality]
        first = max(0, len(encoder.blocks()) - encoder.layers)
        return [rows for (m, n), rows in self.rows.items() if m == modality and n >= first]

    def step(self, number=0):
        batch = next(self.feed.epoch(0, number, self.phase.device))
        self.phase.step(batch)

    def read(self, loss, number=0):
        """The distinct items of a step by the windows of its users and what is drawn for them."""
        users = self.feed.order(0)[number * USERS : (number + 1) * USERS]
        windows = sequences.take(self.made.split.train, users)
        owners = np.repeat(np.arange(USERS), sequences.lengths(windows) - 1)
        drawn = self.feed.negatives(windows, owners, [0, 0, number + 1])
        return {*windows.items.tolist(), *drawn.ravel().tolist()}

    def check(self, wanted):
        """Each of these items once through what trains, where it has that modality."""
        for modality, content in self.tower.contents.items():
            present = sorted(item for item in wanted if content.present[item])
            assert 0 not in present
            assert sorted(self.items[modality]) == present
            assert self.trained(modality) == [len(present)] * len(self.trained(modality))
            assert self.trained(modality), "something trains"


@pytest.mark.parametrize("cache", ["required", "off"])
@pytest.mark.parametrize("loss", ["in_batch", "bce"])
def test_a_step_encodes_each_distinct_item_once_and_no_padding(
    loss, cache, target, public, tmp_path
):
    counted = Counted(target, public, tmp_path, loss, machine__prefix_cache=cache)
    counted.step()
    wanted = counted.read(loss)
    assert len(wanted) < counted.made.split.candidates.sum(), "else all items would do"
    counted.check(wanted)


def test_where_all_layers_train_each_item_is_encoded_once_too(target, public, tmp_path):
    changes = {"end2end__trainable": {"layers": "all"}}
    counted = Counted(target, public, tmp_path, **changes)
    counted.step()
    counted.check(counted.read("in_batch"))
    assert not counted.frozen


def test_a_validation_encodes_each_candidate_once(target, public, tmp_path):
    counted = Counted(target, public, tmp_path)
    parts = counted.made.split
    objective.validate(counted.phase.model, parts, batch=8)
    counted.check(np.flatnonzero(parts.candidates).tolist())


@pytest.mark.parametrize("layers", [1, 2])
def test_nothing_frozen_runs_where_the_prefix_is_kept(layers, target, public, tmp_path):
    changes = {"end2end__trainable": {"layers": layers}, "machine__prefix_cache": "required"}
    counted = Counted(target, public, tmp_path, **changes)
    assert {modality for modality, _ in counted.frozen} == {"text", "image"}, "some of each is"
    counted.step(0)
    counted.step(1)
    objective.validate(counted.phase.model, counted.made.split, batch=8)
    assert not any(counted.frozen.values())
    below = [
        rows
        for (modality, number), rows in counted.rows.items()
        if number < len(counted.tower.encoders[modality].blocks()) - layers
    ]
    assert len(below) == 2 * (3 - layers)
    assert not any(below)


def test_without_a_kept_prefix_the_same_blocks_run(target, public, tmp_path):
    """So the count above could fail."""
    counted = Counted(target, public, tmp_path, machine__prefix_cache="off")
    counted.step()
    assert all(counted.rows.values())
    assert any(counted.frozen.values())
