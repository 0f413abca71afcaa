"""What is kept below adapters: by all that are alike there, and the vectors stay as they are."""

import pytest
import torch

from pipeline.content import lora, prefix
from tests.content.adapting import TWO, adapters, changed, nudge
from tests.content.families import CPU, FAMILIES, ITEMS, counted, made, passed


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_prefix_below_adapters_changes_no_vector_and_no_gradient(
    family, layers, pack, request, tmp_path
):
    encoder, content = made(family, pack, request)
    lora.adapt(encoder, changed(layers=layers), 0)
    nudge(encoder)
    encoder.eval()  # no dropout
    kept = prefix.keep(encoder, content, tmp_path, CPU, "required")
    assert isinstance(kept, prefix.Kept)
    items = ITEMS[content.present[ITEMS]]
    whole = passed(encoder, content.batch(items), encoder.encode)  # as the library does it
    for ours in (passed(encoder, content.batch(items)), passed(encoder, kept.batch(items))):
        assert whole.keys() == ours.keys() == {"vectors", *adapters(encoder)}
        for name, value in whole.items():
            torch.testing.assert_close(ours[name], value, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize("family", ["bert", "open_clip ViT", "timm MobileNetV2"])
def test_the_prefix_is_shared_by_all_that_are_alike_below_and_by_no_other(
    family, pack, request, tmp_path, monkeypatch
):
    calls = counted(monkeypatch)
    public, content = made(family, pack, request)

    def fills(encoder):
        before = len(calls)
        prefix.keep(encoder, content, tmp_path, CPU, "required")
        return len(calls) > before

    public.unfreeze(2)
    assert fills(public)
    encoder, _ = made(family, pack, request)
    lora.adapt(encoder, TWO, 0)
    assert not fills(encoder), "adapters stand above"
    nudge(encoder)
    assert not fills(encoder), "whatever they learned"
    tuned = lora.merged(encoder)
    tuned.unfreeze(2)
    assert not fills(tuned), "and what was tuned so is as public below"
    again = lora.merged(encoder)
    lora.adapt(again, changed(rank=3), 0)
    assert not fills(again), "with adapters once more too"
    tuned.unfreeze(1)
    assert fills(tuned), "a tuned block lies below"
    public.unfreeze(1)
    assert fills(public), "and it is not the public one"
    one, _ = made(family, pack, request)
    lora.adapt(one, changed(layers=1), 0)
    assert not fills(one)
    for below in (one.blocks()[-2], one):  # the one's first parameter is below all blocks
        with torch.no_grad():
            next(below.parameters()).add_(1)
        assert fills(one), "other frozen weights"


def test_where_all_blocks_have_adapters_nothing_is_kept(bert, pack, request, tmp_path):
    encoder, content = made("bert", pack, request)
    lora.adapt(encoder, changed(layers="all"), 0)
    assert prefix.keep(encoder, content, tmp_path, CPU, "required") is content
