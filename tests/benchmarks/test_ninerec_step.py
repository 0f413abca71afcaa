"""NineRec's step costs more than ours and says the same: equal losses, equal gradients."""

import numpy as np
import pytest
import torch

from benchmarks import end2end_sides as sides
from benchmarks import ninerec_step
from pipeline.content import prefix
from pipeline.data import lists, sequences
from pipeline.models.rows import Rows
from pipeline.models.sasrec import Sasrec
from tests.benchmarks.pair import (
    FULL,
    LENGTH,
    SASREC,
    SLOTS,
    TOKENS,
    WIDTH,
    Pair,
    same_users,
)
from tests.small_content import *  # noqa: F403  # fixtures
from tests.small_content import World


@pytest.mark.parametrize("layers", [1, "all"])
@pytest.mark.parametrize("content", FULL)
def test_loss_and_gradients_are_those_of_our_step(content, layers, public, pack, tmp_path):
    pair = Pair(public, pack, content, layers, tmp_path)
    ours, theirs = pair.losses(*same_users(content))
    assert ours == pytest.approx(theirs, rel=0, abs=1e-12)
    own, reference = pair.gradients()
    assert own.keys() == reference.keys()
    assert sum(name.startswith("encoders") for name in own) > len(lists.MODALITIES[content])
    for name, gradient in own.items():
        torch.testing.assert_close(gradient, reference[name], rtol=0, atol=1e-10, msg=name)


@pytest.mark.parametrize("layers", [1, "all"])
def test_what_trains_is_told_as_found_in_the_encoders(layers, public, pack, tmp_path):
    pair = Pair(public, pack, "both", layers, tmp_path)
    theirs = sides.trained(pair.theirs.encoders)
    assert theirs == sides.trained(pair.ours.tower.encoders)
    for modality, found in theirs.items():
        encoder = pair.theirs.encoders[modality]
        assert found["blocks"] == 3 == len(encoder.blocks())
        assert found["layers"] == {1: 1, "all": 3}[layers]
        assert found["whole"] == sum(p.numel() for p in encoder.parameters())
        assert found["weights"] == sum(
            p.numel() for p in encoder.parameters() if layers == "all" or p.requires_grad
        )
        assert (found["weights"] == found["whole"]) == (layers == "all")


def test_ours_takes_kept_activations_where_a_part_is_frozen(public, pack, tmp_path):
    is_kept = {
        layers: isinstance(Pair(public, pack, "text", layers, tmp_path).kept["text"], prefix.Kept)
        for layers in (1, "all")
    }
    assert is_kept == {1: True, "all": False}


def test_rows_padded_on_the_left_and_histories_without_padding_are_encoded_alike():
    torch.manual_seed(0)
    sasrec = Sasrec(WIDTH, LENGTH, SASREC).double()
    lengths = np.array([5, 1, 3])
    packed = torch.randn(lengths.sum(), WIDTH, dtype=torch.float64)
    ours = sasrec(packed, Rows.of(lengths))
    # Whatever stands in padding is not seen.
    dense = torch.randn(3, LENGTH, WIDTH, dtype=torch.float64)
    is_item = torch.from_numpy(np.arange(LENGTH) >= LENGTH - lengths[:, None])
    dense[is_item] = packed
    model = ninerec_step.Model(torch.nn.ModuleDict(), {}, TOKENS, torch.nn.Identity(), sasrec)
    torch.testing.assert_close(model.queries(dense, is_item)[is_item], ours, rtol=0, atol=1e-12)


def test_slots_by_hand():
    train = sequences.from_rows([[3, 1, 2], [4, 5]])
    slots = ninerec_step.lay_out(train, np.array([7, 8, 9]), 4)
    assert slots.positives.tolist() == [[0, 3, 1, 2], [0, 0, 4, 5]]
    # Below each item that is predicted, so not below a user's first.
    assert slots.negatives.tolist() == [[0, 0, 7, 8], [0, 0, 0, 9]]


def test_every_slot_goes_through_every_block(public, pack, tmp_path):
    """What the step is compared for: 2 x 6 slots a user, padding too, frozen blocks too."""
    pair = Pair(public, pack, "both", 1, tmp_path)
    rows = {}
    for modality, encoder in pair.theirs.encoders.items():
        for number, block in enumerate(encoder.blocks()):
            block.register_forward_hook(
                lambda _, given, out, key=(modality, number): rows.setdefault(key, []).append(
                    len(given[0])
                )
            )
    pair.losses(*same_users("both"))
    assert len(rows) == 6, "three blocks each"
    assert all(seen == [4 * 2 * SLOTS] for seen in rows.values())


def test_texts_are_padded_to_one_length_and_padding_is_no_text_and_grey(public, pack):
    world = World(public, pack)
    chosen = np.array([0, 1, 2, 0])
    text = ninerec_step.padded(world.contents["text"], chosen, TOKENS)
    assert text["input_ids"].shape == (4, TOKENS)
    lengths = world.contents["text"].lengths
    assert text["attention_mask"].sum(1).tolist() == [0, lengths[1], lengths[2], 0]
    pixels = ninerec_step.padded(world.contents["image"], chosen, TOKENS)["pixels"]
    assert pixels.shape == (4, 40, 40, 3)
    assert (pixels[[0, 3]] == ninerec_step.GREY).all()
    assert torch.equal(pixels[1], world.contents["image"].batch(np.array([1]))["pixels"][0])
