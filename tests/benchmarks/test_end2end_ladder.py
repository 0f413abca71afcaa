import numpy as np
import pytest

from benchmarks import end2end_ladder
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
