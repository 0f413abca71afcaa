import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models.rows import Rows


def test_rows_worked_by_hand():
    rows = Rows.of(np.array([2, 1, 3]))
    assert rows.owners.tolist() == [0, 0, 1, 2, 2, 2]
    assert rows.steps.tolist() == [0, 1, 0, 0, 1, 2]
    assert rows.grid.tolist() == [[0, 1, 1], [2, 2, 2], [3, 4, 5]]
    assert rows.alive.tolist() == [3, 2, 1]
    assert rows.last().tolist() == [1, 2, 5]
    packed = torch.arange(12.0).view(6, 2)
    padded = rows.pad(packed)
    assert padded[:, :, 0].tolist() == [[0, 2, 2], [4, 4, 4], [6, 8, 10]]
    assert torch.equal(rows.pack(padded), packed)
    # First items of the histories of 3, 2 and 1; second ones of those of 3 and 2; the third of 3.
    assert rows.by_step().tolist() == [3, 0, 2, 4, 1, 5]
    assert rows.earlier(1).tolist() == [6, 0, 6, 6, 3, 4]
    assert rows.earlier(2).tolist() == [6, 6, 6, 6, 6, 3]


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=7))
def test_longer_rows_are_those_of_histories_with_one_item_more(lengths):
    found, expected = Rows.of(np.array(lengths)).longer(), Rows.of(np.array(lengths) + 1)
    for own, other in zip(found, expected, strict=True):
        assert own.dtype == other.dtype and torch.equal(own, other)


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=7))
def test_in_steps_is_what_torch_makes_of_padded_rows(lengths):
    rows = Rows.of(np.array(lengths))
    packed = torch.arange(2.0 * sum(lengths)).view(-1, 2)
    expected = torch.nn.utils.rnn.pack_padded_sequence(
        rows.pad(packed), rows.lengths, batch_first=True, enforce_sorted=False
    )
    found = rows.in_steps(packed, rows.by_step())
    assert torch.equal(found.batch_sizes, expected.batch_sizes)
    for step, size in enumerate(found.batch_sizes.tolist()):  # ties may stand in another order
        start = int(found.batch_sizes[:step].sum())
        one, other = (x.data[start : start + size, 0].sort().values for x in (found, expected))
        assert torch.equal(one, other)
