"""The frozen prefix, run once and kept: the same vectors and gradients as the whole encoder."""

import numpy as np
import pytest
import torch
from transformers import masking_utils

from pipeline.content import device, prefix
from pipeline.content.blocks import HIDDEN, MASK
from pipeline.content.image import ImageContent
from pipeline.content.text import TextContent
from pipeline.data import files
from tests.content.conftest import TEXTS
from tests.content.families import (
    CPU,
    FAMILIES,
    ITEMS,
    counted,
    made,
    passed,
    reader,
    small_clip_vit,
    small_timm,
    small_vit,
)
from tests.torchrun import torchrun


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_and_gradients_are_those_of_the_whole_encoder(
    family, layers, pack, request, tmp_path
):
    encoder, content = made(family, pack, request)
    encoder.unfreeze(layers)
    kept = prefix.keep(encoder, content, tmp_path, CPU, "required")
    assert isinstance(kept, prefix.Kept)
    items = ITEMS[content.present[ITEMS]]
    encoder.eval()  # no dropout
    whole = passed(encoder, content.batch(items), encoder.encode)  # as the library does it
    assert len(whole) > 1, "something trains"
    for ours in (passed(encoder, content.batch(items)), passed(encoder, kept.batch(items))):
        assert whole.keys() == ours.keys()
        for name, value in whole.items():
            torch.testing.assert_close(ours[name], value, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_that_trains_whole_is_as_its_library_has_it(family, pack, request):
    encoder, content = made(family, pack, request)
    encoder.unfreeze("all")
    batch = content.batch(ITEMS[content.present[ITEMS]])
    encoder.eval()
    theirs, ours = passed(encoder, batch, encoder.encode), passed(encoder, batch)
    assert theirs.keys() == ours.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize(("attention", "made_by_library"), [("sdpa", 0), ("eager", 1)])
def test_a_pass_makes_the_layers_mask_once(
    bert, pack, request, monkeypatch, attention, made_by_library
):
    encoder, content = made("bert", pack, request)
    encoder.model[0].auto_model.set_attn_implementation(attention)
    encoder.unfreeze(2)
    batch = content.batch(ITEMS[content.present[ITEMS]])
    encoder.eval()
    expected = encoder(batch)
    state = encoder.prefix(batch)
    masks = []
    real = masking_utils.create_bidirectional_mask
    monkeypatch.setattr(
        masking_utils, "create_bidirectional_mask", lambda *of: masks.append(1) or real(*of)
    )
    found = encoder(state)
    assert len(masks) == made_by_library
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("family", ["bert", "bert, first token"])
def test_trained_blocks_keep_their_dropout(family, pack, request, tmp_path):
    encoder, content = made(family, pack, request)
    encoder.unfreeze(1)
    kept = prefix.keep(encoder, content, tmp_path, CPU, "required")
    batch = kept.batch(ITEMS[content.present[ITEMS]])
    encoder.train()
    assert not torch.equal(encoder(batch), encoder(batch))
    encoder.eval()
    assert torch.equal(encoder(batch), encoder(batch))


@pytest.mark.parametrize(
    ("family", "reads_first"),
    [
        ("bert", False),
        ("bert, first token", True),
        ("open_clip ViT", True),
        ("open_clip ViT, mean", False),
        ("timm ViT", True),
        ("timm ViT, mean", False),
    ],
)
def test_the_top_block_computes_no_token_that_pooling_does_not_read(
    family, reads_first, pack, request
):
    encoder, content = made(family, pack, request)
    encoder.unfreeze(2)
    state = encoder.prefix(content.batch(ITEMS[content.present[ITEMS]]))
    seen, tokens = [], state[HIDDEN].shape[1]
    for block in encoder.blocks()[-2:]:
        feed_forward = block.get_submodule("intermediate" if family.startswith("bert") else "mlp")
        feed_forward.register_forward_hook(lambda _, read, made: seen.append(read[0].shape[1]))
    encoder(state)
    assert seen == [tokens, 1 if reads_first else tokens]
    assert tokens > 1


@pytest.mark.parametrize(
    "made_of",
    [
        lambda: small_vit("vit_pwee_patch16_reg1_gap_256"),  # blocks of another class
        lambda: small_vit(attn_layer="diff"),
        lambda: small_vit(global_pool="map"),
        lambda: small_clip_vit(attentional_pool=True),
        lambda: small_clip_vit(block_type="custom"),
        lambda: small_clip_vit(pool_type="avg"),
    ],
    ids=["parallel", "differential", "timm map", "attentional", "custom", "average"],
)
def test_nets_of_other_blocks_or_pooling_run_as_their_library_has_them(made_of, pack):
    encoder = made_of().double()
    batch = ImageContent(pack, encoder).batch(ITEMS[:3])
    top = encoder.blocks()[-1]
    assert encoder.topmost(top) is top
    assert torch.equal(encoder(batch), encoder.encode(batch))


@pytest.mark.parametrize("how", ["two poolings", "eager"])
def test_texts_of_other_pooling_or_attention_run_as_their_library_has_them(how, bert):
    encoder, content = reader(bert, "cls")
    top = encoder.blocks()[-1]
    assert encoder.topmost(top) is not top
    if how == "eager":
        encoder.model[0].auto_model.set_attn_implementation("eager")
    else:
        encoder, content = reader(bert, ("cls", "mean"))
        top = encoder.blocks()[-1]
    assert encoder.topmost(top) is top
    batch = content.batch(ITEMS[content.present[ITEMS]])
    assert torch.equal(encoder(batch), encoder.encode(batch))


@pytest.mark.parametrize("family", ["bert", "timm ViT"])
def test_where_nothing_trains_the_vectors_are_kept(family, pack, request, tmp_path):
    encoder, content = made(family, pack, request)
    encoder.unfreeze(0)
    kept = prefix.keep(encoder, content, tmp_path, CPU, "required")
    items = ITEMS[content.present[ITEMS]]
    torch.testing.assert_close(encoder(kept.batch(items)), encoder(content.batch(items)))
    assert kept.flat.shape == (content.present.sum(), encoder.width)


def test_where_nothing_trains_vectors_are_kept_as_they_are_embedded(
    bert, pack, request, tmp_path, monkeypatch
):
    encoder, content = made("bert", pack, request)
    encoder.float()
    monkeypatch.setattr(device, "precision", lambda _: torch.bfloat16)
    encoder.unfreeze(0)
    assert prefix.keep(encoder, content, tmp_path, CPU, "required").flat.dtype == torch.float32
    encoder.unfreeze(1)
    assert prefix.keep(encoder, content, tmp_path, CPU, "required").flat.dtype == torch.bfloat16


@pytest.mark.parametrize(
    "family", ["bert", "bert, first token", "timm ViT", "open_clip ViT", "open_clip ResNet"]
)
def test_a_gpus_precision_trains_on_what_is_kept_in_it(
    family, pack, request, tmp_path, monkeypatch
):
    """On a CPU, which has bfloat16 too: the same as the whole encoder up to rounding."""
    encoder, content = made(family, pack, request)
    encoder.float().unfreeze(1)
    monkeypatch.setattr(device, "precision", lambda _: torch.bfloat16)
    kept = prefix.keep(encoder, content, tmp_path, CPU, "required")
    items = ITEMS[content.present[ITEMS]]
    encoder.eval()
    with device.autocast(CPU):
        whole = passed(encoder, content.batch(items), encoder.encode)
        ours = passed(encoder, kept.batch(items))
    assert kept.flat.dtype == torch.bfloat16
    assert whole.keys() == ours.keys()
    pairs = [(whole.pop("vectors"), ours.pop("vectors"))]
    # Together, since that of a key's bias is rounding alone.
    pairs.append([torch.cat([g.flatten() for g in found.values()]) for found in (whole, ours)])
    for value, found in pairs:
        assert value.norm() > 0
        assert (found - value).norm() <= 0.05 * value.norm()


def test_what_is_kept_is_used_again_while_only_the_top_differs(
    pack, request, tmp_path, monkeypatch
):
    encoder, content = made("bert", pack, request)
    encoder.unfreeze(1)
    calls = counted(monkeypatch)
    prefix.keep(encoder, content, tmp_path, CPU, "auto")
    assert len(calls) == 1
    with torch.no_grad():
        encoder.blocks()[2].output.dense.weight += 1
    prefix.keep(encoder, content, tmp_path, CPU, "auto")
    assert len(calls) == 1, "a tuned encoder shares what lies below its tuned part"
    with torch.no_grad():
        encoder.blocks()[1].output.dense.weight += 1
    prefix.keep(encoder, content, tmp_path, CPU, "auto")
    assert len(calls) == 2, "other frozen weights"
    encoder.unfreeze(2)
    prefix.keep(encoder, content, tmp_path, CPU, "auto")
    assert len(calls) == 3, "another number of blocks"
    other = TextContent([*TEXTS[:-1], "blue hat"], encoder)
    prefix.keep(encoder, other, tmp_path, CPU, "auto")
    assert len(calls) == 4, "other texts"


def test_what_is_kept_is_of_one_specification_and_precision(pack, request, tmp_path, monkeypatch):
    encoder, content = made("bert", pack, request)
    encoder.float().unfreeze(1)
    calls = counted(monkeypatch)
    prefix.keep(encoder, content, tmp_path, CPU, "auto")
    encoder.spec = encoder.spec.model_copy(update={"max_tokens": 5})
    prefix.keep(encoder, content, tmp_path, CPU, "auto")
    assert len(calls) == 2, "cut elsewhere, with the same weights and texts"
    monkeypatch.setattr(device, "precision", lambda _: torch.bfloat16)
    kept = prefix.keep(encoder, content, tmp_path, CPU, "auto")
    assert len(calls) == 3, "another precision"
    assert kept.flat.dtype == torch.bfloat16


def test_filling_again_gives_the_same_bytes(pack, request, tmp_path):
    encoder, content = made("bert", pack, request)
    encoder.unfreeze(1)
    for name in ("one", "two"):
        prefix.keep(encoder, content, tmp_path / name, CPU, "auto")
    one, two = (next((tmp_path / n).rglob(prefix.DATA)).read_bytes() for n in ("one", "two"))
    assert one == two


def test_what_is_kept_may_be_larger_than_the_memory(bert, tmp_path):
    encoder, content = reader(bert)
    encoder.unfreeze(1)
    width = prefix.keep(encoder, content, tmp_path, CPU, "auto").flat.shape[1]
    data, about = (next(tmp_path.rglob(name)) for name in (prefix.DATA, prefix.ABOUT))
    wider = 1 << 40  # bytes, without a block on the disk
    rows = int(content.lengths.sum())
    described = files.read_json(about) | {"shape": [wider // rows // 8], "bytes": wider}
    files.write_json(about, described)
    with data.open("r+b") as file:
        file.truncate(wider)
    found = prefix.Kept(about.parent, content, CPU).flat
    assert found.nbytes > wider - 8 * rows
    assert found[0, :width].any() and not found[-1, -1]


TOGETHER = """
import sys, time
from pathlib import Path
import numpy as np, torch
from pipeline.content import prefix, processes, specification, text

def slowly(*given):
    print("filled by", processes.rank(), flush=True)
    time.sleep(0.5)
    fill(*given)

fill, prefix.fill = prefix.fill, slowly
cpu, root = torch.device("cpu"), Path(sys.argv[2])
encoder = text.SentenceEncoder.fetch(specification.resolve(sys.argv[1], "text"))
encoder.unfreeze(1)
content = text.TextContent(["red dress", "shoe", "the old wool hat"], encoder)
with processes.group(cpu):
    time.sleep(0.5 if processes.is_first() else 0)  # it comes last
    kept = prefix.keep(encoder, content, root, cpu, "required")
    torch.save(kept.batch(np.array([2, 3])), root / f"{processes.rank()}.pt")
"""


@pytest.mark.slow
def test_of_several_processes_the_first_fills_and_the_others_wait(bert, tmp_path):
    (tmp_path / "together.py").write_text(TOGETHER)
    done = torchrun(2, [tmp_path / "together.py", bert, tmp_path])
    assert done.returncode == 0, done.stderr
    assert done.stdout == "filled by 0\n"
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert found[0].keys() == found[1].keys() == {HIDDEN, MASK}
    assert all(torch.equal(found[0][name], found[1][name]) for name in (HIDDEN, MASK))


def test_a_family_that_is_not_known_goes_without_or_stops(pack, tmp_path, capsys):
    encoder = small_timm("test_vit2")
    encoder.net.__class__ = type("Unheard", (type(encoder.net),), {})
    content = ImageContent(pack, encoder)
    encoder.unfreeze(1)
    assert prefix.keep(encoder, content, tmp_path, CPU, "auto") is content
    assert "the blocks of 'test_vit2' (timm) can't be run apart" in capsys.readouterr().err
    with pytest.raises(files.Stop, match=r"prefix_cache is 'required', but the blocks of 'test_v"):
        prefix.keep(encoder, content, tmp_path, CPU, "required")


@pytest.mark.parametrize(("layers", "cache"), [("all", "required"), (3, "auto"), (1, "off")])
def test_nothing_is_kept_where_all_trains_or_it_is_off(
    layers, cache, pack, request, tmp_path, capsys
):
    encoder, content = made("bert", pack, request)
    encoder.unfreeze(layers)
    capsys.readouterr()
    assert prefix.keep(encoder, content, tmp_path, CPU, cache) is content
    assert capsys.readouterr().err == ""


def test_items_without_content_are_refused(pack, request, tmp_path):
    encoder, content = made("bert", pack, request)
    encoder.unfreeze(1)
    kept = prefix.keep(encoder, content, tmp_path, CPU, "auto")
    with pytest.raises(ValueError, match=r"items without content: \[3\]"):
        kept.batch(np.array([1, 3]))
