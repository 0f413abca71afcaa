from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import end2end_ladder
from benchmarks import end2end_sides as sides
from benchmarks import end2end_steps as steps
from pipeline.content.blocks import CHUNK
from tests.benchmarks.pair import SLOTS, Pair, same_users
from tests.small_content import *  # noqa: F403  # fixtures


def rows_a_call(encoder):
    """Note the rows of each call of the lowest block."""
    rows = []
    encoder.blocks()[0].register_forward_hook(lambda _, given, out: rows.append(len(given[0])))
    return rows


@pytest.mark.parametrize("kind", [end2end_ladder.InPasses, end2end_ladder.Distinct])
@pytest.mark.parametrize("content", ["text", "both"])
def test_a_rung_says_what_both_ends_say(kind, content, public, pack, tmp_path):
    pair = Pair(public, pack, content, 1, tmp_path, kind)
    ours, theirs = pair.losses(*same_users(content))
    assert ours == pytest.approx(theirs, rel=0, abs=1e-12)


def test_passes_take_all_slots_some_at_a_time(public, pack, tmp_path):
    pair = Pair(public, pack, "text", 1, tmp_path, end2end_ladder.InPasses)
    rows = rows_a_call(pair.theirs.encoders["text"])
    pair.losses(*same_users("text"))
    assert rows == [CHUNK, 4 * 2 * SLOTS - CHUNK]


def test_distinct_takes_each_item_once_and_no_padding(public, pack, tmp_path):
    pair = Pair(public, pack, "text", 1, tmp_path, end2end_ladder.Distinct)
    rows = rows_a_call(pair.theirs.encoders["text"])
    batch, slots = same_users("text")
    pair.losses(batch, slots)
    assert rows == [len(np.unique(np.stack(slots))) - 1] == [len(batch.items)]


def test_every_rung_has_its_optimizers_step(monkeypatch):
    setup = sides.Setup("", "small", "cpu", users=64, steps=2, reference_users=8, reference_steps=1)
    # Seconds of 8 users each in the first two rungs, of 64 in the third, of 2 x 64 in the others.
    seconds = dict(zip(range(6), ([16.0], [8.0], [32.0], [32.0], [16.0], [12.8]), strict=True))

    def in_turn(setup, fed, calls, repeats):
        *rungs, update = calls
        assert update == end2end_ladder.UPDATE
        return {name: seconds[n] for n, name in enumerate(rungs)} | {update: [6.4]}

    none = SimpleNamespace(model=SimpleNamespace(encoders={}))
    for module, name, fake in (
        (sides, "reference", lambda *_: none),
        (sides, "ours", lambda *_: none),
        (sides, "work", lambda *_: None),
        (sides, "feed", lambda *_: None),
        (sides, "gradients", lambda *_: None),
        (steps, "in_turn", in_turn),
    ):
        monkeypatch.setattr(module, name, fake)
    found = end2end_ladder.climb(setup, None, 1)
    # 6.4 / 64 = 0.1 is the optimizer's in the first three: 2 + 0.1, 1 + 0.1, 0.5 + 0.1.
    per_user = [own[0] for own in found["seconds_a_user"].values()]
    assert per_user == pytest.approx([2.1, 1.1, 0.6, 0.25, 0.125, 0.1])
    assert [ratio["median"] for ratio in found["to_first"].values()] == pytest.approx(
        [2.1 / 1.1, 2.1 / 0.6, 2.1 / 0.25, 2.1 / 0.125, 21]
    )
    assert [*found["to_former"].values()][-1]["median"] == pytest.approx(1.25)
