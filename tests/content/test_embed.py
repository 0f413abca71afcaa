"""Embedding a domain: each item's vector, made once; a passport that tells changes."""

import json

import numpy as np
import polars as pl
import pytest
import torch

from pipeline.content import device, embed, specification, spool, store
from pipeline.content.image import ImageContent
from pipeline.content.text import TextContent
from pipeline.data import files
from tests.content.conftest import TEXTS
from tests.content.embedding import CPU, MACHINE, Repeating, Said, run
from tests.memory import out_of_memory


def test_every_item_has_the_encoders_vector(bert, fetch, many, tmp_path):
    encoder = fetch(str(bert), "text")
    content = TextContent(many, encoder)
    encoder.unfreeze("all")
    encoder.train()  # whose dropout must not act
    run(embed.Job(encoder, content), tmp_path)

    found = store.load(tmp_path / "out")["text"]

    assert found.vectors.shape == (24, 16)
    assert np.flatnonzero(~found.present).tolist() == [0, 4, 12]
    assert not found.vectors[~found.present].any()
    with torch.inference_mode():
        for item in np.flatnonzero(found.present):
            expected = encoder(content.batch(np.array([item])))[0].numpy()
            np.testing.assert_allclose(found.vectors[item], expected, atol=1e-6)
    assert not [p for p in (tmp_path / "scratch").iterdir() if p.is_dir()]
    cost = json.loads((tmp_path / "cost.json").read_text())
    assert cost["items_per_second"] > 0
    assert cost["parameters"] == sum(p.numel() for p in encoder.parameters())


@pytest.mark.parametrize(("n", "calls"), [(1, 1), (4, 2), (23, 12)])
def test_each_item_is_read_and_encoded_once_in_whole_batches(n, calls, tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "SHARD", 4)
    encoder, content = Repeating(), Said(n)
    run(embed.Job(encoder, content), tmp_path)
    assert len(encoder.batches) == calls
    assert encoder.batches == content.batches
    assert np.concatenate(encoder.batches).tolist() == list(range(1, n + 1))
    found = store.load(tmp_path / "out")["text"].vectors
    np.testing.assert_array_equal(found, np.arange(n + 1)[:, None].repeat(3, axis=1))


def test_batches_hold_like_lengths_and_no_pad_beyond_them(bert, fetch, many):
    content = TextContent(many, fetch(str(bert), "text"))
    items = embed.order(content)
    assert sorted(items.tolist()) == np.flatnonzero(content.present).tolist()
    assert (np.diff(content.lengths[items]) <= 0).all()


def test_the_passport_tells_what_changed_and_nothing_else(bert, clip, pack, fetch, monkeypatch):
    def passport(encoder, content):
        return embed.passport(embed.Job(encoder, content), CPU)

    encoder = fetch(str(bert), "text")
    said = passport(encoder, TextContent(TEXTS, encoder))
    assert passport(encoder, TextContent(list(TEXTS), fetch(str(bert), "text"))) == said
    assert passport(encoder, TextContent(["red", *TEXTS[1:]], encoder)) != said
    short = specification.Spec(library="sentence-transformers", model=str(bert), max_tokens=5)
    short_encoder = fetch(short, "text", "short")
    assert passport(short_encoder, TextContent(TEXTS, short_encoder)) != said
    with torch.no_grad():
        next(encoder.parameters())[0, 0] += 1e-3
    changed = passport(encoder, TextContent(TEXTS, encoder))
    assert {key for key in said if changed[key] != said[key]} == {"weights"}

    seeing = fetch(str(clip), "image")
    seen = passport(seeing, ImageContent(pack, seeing))
    pixels = pack.pixels.copy()
    pixels[0, 0, 0] = 255 - pixels[0, 0, 0]
    other = passport(seeing, ImageContent(pack._replace(pixels=pixels), seeing))
    assert {key for key in seen if other[key] != seen[key]} == {"inputs"}
    monkeypatch.setattr(device, "precision", lambda _: torch.bfloat16)
    faster = passport(seeing, ImageContent(pack, seeing))
    assert {key: faster[key] for key in seen if faster[key] != seen[key]} == {"dtype": "bfloat16"}


def test_several_modalities_get_a_joint_passport(bert, clip, pack, fetch, tmp_path):
    reading, seeing = fetch(str(bert), "text", "text"), fetch(str(clip), "image", "image")
    jobs = {
        "text": embed.Job(reading, TextContent(TEXTS, reading)),
        "image": embed.Job(seeing, ImageContent(pack, seeing)),
    }
    embed.run(jobs, True, tmp_path / "o", tmp_path / "c.json", tmp_path / "s", MACHINE)
    found = store.load(tmp_path / "o")
    assert {m: e.vectors.shape for m, e in found.items()} == {"text": (8, 16), "image": (8, 24)}


def test_no_content_at_all_stops(bert, fetch, tmp_path):
    encoder = fetch(str(bert), "text")
    with pytest.raises(files.Stop, match=r"not one item .* has a text: .* domains\.text and"):
        run(embed.Job(encoder, TextContent([None, ""], encoder)), tmp_path)
    assert not (tmp_path / "out").exists()


def test_vectors_that_are_not_finite_stop(bert, fetch, tmp_path):
    encoder = fetch(str(bert), "text")
    with torch.no_grad():
        encoder.blocks()[0].output.dense.weight.fill_(torch.inf)
    with pytest.raises(files.Stop, match="not finite, for 5 items, such as item 2"):
        run(embed.Job(encoder, TextContent(TEXTS, encoder)), tmp_path)


@pytest.mark.parametrize(
    ("batch", "fix"), [(2, ".* machine.embed_batch to 1"), (1, "free some, .*")]
)
def test_too_little_memory_names_the_batch_and_what_to_try(batch, fix, tmp_path, monkeypatch):
    encoder, content = Repeating(), Said(4)
    monkeypatch.setattr(encoder, "forward", out_of_memory)
    monkeypatch.setattr(spool, "SHARD", 4)
    machine = MACHINE.model_copy(update={"embed_batch": batch})
    message = f"cpu has too little memory to encode {batch} items at once; {fix}$"
    with pytest.raises(files.Stop, match=message):
        run(embed.Job(encoder, content), tmp_path, machine=machine)


def test_covers_of_another_item_table_stop(clip, pack, fetch, tmp_path, monkeypatch):
    encoder = fetch(str(clip), "image")

    def write(n):
        items = pl.DataFrame({"id": ["a"] * n, "text": ["b"] * n, "cover": ["c"] * n})
        items.write_parquet(tmp_path / "items.parquet")

    write(1)
    with pytest.raises(files.Stop, match="give --covers"):
        embed.content(encoder, tmp_path, None)
    monkeypatch.setattr(embed.covers, "load", lambda _: pack)
    for n in (1, 9):
        write(n)
        message = rf"covers of 7 items, but .* has {n}. Run the stage covers"
        with pytest.raises(files.Stop, match=message):
            embed.content(encoder, tmp_path, tmp_path)


def test_covers_that_must_be_enlarged_are_warned_of(
    clip, pack, fetch, tmp_path, monkeypatch, capsys
):
    encoder = fetch(str(clip), "image")  # it reads 32 pixels
    items = pl.DataFrame({"id": ["a"] * 7, "text": ["b"] * 7, "cover": ["c"] * 7})
    items.write_parquet(tmp_path / "items.parquet")
    for own in (32, 31):
        small = pack._replace(pixels=pack.pixels[:, :own, :own])
        monkeypatch.setattr(embed.covers, "load", lambda _, small=small: small)
        embed.content(encoder, tmp_path, tmp_path / "covers")
        said = capsys.readouterr().err
        is_warned = "covers of 31 pixels a side, which are enlarged to the 32 that" in said
        assert is_warned == (own == 31)


def test_an_items_text_is_that_of_its_row(bert, fetch, tmp_path):
    encoder = fetch(str(bert), "text")
    texts = ["shoe", None, "red dress"]
    table = pl.DataFrame({"id": ["a", "b", "c"], "text": texts, "cover": [None] * 3})
    table.write_parquet(tmp_path / "items.parquet")
    content = embed.content(encoder, tmp_path, None)
    assert content.present.tolist() == [False, True, False, True]
    for item, text in [(1, "shoe"), (3, "red dress")]:
        ids = content.batch(np.array([item]))["input_ids"].tolist()
        assert ids == encoder.tokenise([text])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_its_encoders_vectors(bert, clip, pack, fetch, tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "SHARD", 4)
    where = torch.device("cuda")
    reading, seeing = fetch(str(bert), "text", "text"), fetch(str(clip), "image", "image")
    for job in (
        embed.Job(reading, TextContent(TEXTS, reading)),
        embed.Job(seeing, ImageContent(pack, seeing)),
    ):
        modality = job.encoder.modality
        run(job, tmp_path / modality, MACHINE.model_copy(update={"device": "cuda"}))
        found = store.load(tmp_path / modality / "out")[modality]
        items = embed.order(job.content)
        for start in range(0, len(items), 2):
            some = items[start : start + 2]
            with torch.inference_mode(), device.autocast(where):
                expected = job.encoder(job.content.batch(some)).float().cpu().numpy()
            np.testing.assert_array_equal(found.vectors[some], expected)
