"""From an entry of params.yaml to a folder, and a tuned encoder as one more folder."""

import json
import shutil

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from pipeline.content import encoders, specification
from pipeline.content.image import ImageContent
from pipeline.content.text import TextContent
from pipeline.data import files
from tests.content.conftest import TEXTS


@pytest.mark.parametrize(
    ("entry", "modality", "library", "model", "weights"),
    [
        ("org/a", "text", "sentence-transformers", "org/a", None),
        ("bert-base", "text", "sentence-transformers", "bert-base", None),
        ("open_clip:ViT-B-32/openai", "image", "open_clip", "ViT-B-32", "openai"),
        ("open_clip:hf-hub:a/b", "image", "open_clip", "hf-hub:a/b", None),
        ("timm:swin_base.ms_in22k", "image", "timm", "swin_base.ms_in22k", None),
    ],
)  # fmt: skip
def test_a_name_is_shorthand(entry, modality, library, model, weights):
    spec = specification.resolve(entry, modality)
    assert (spec.library, spec.model, spec.weights) == (library, model, weights)


@pytest.mark.parametrize(
    ("folder", "modality", "library"),
    [
        ("bert", "text", "sentence-transformers"),
        ("clip", "image", "open_clip"),
        ("vit", "image", "timm"),
    ],
)
def test_a_local_folder_tells_its_library(folder, modality, library, request, tmp_path):
    where = request.getfixturevalue(folder)
    assert specification.resolve(str(where), modality).library == library
    encoders.fetch(specification.resolve(str(where), modality), tmp_path / "encoder")
    assert specification.resolve(str(tmp_path / "encoder"), modality).library == library


@pytest.mark.parametrize(
    ("entry", "modality", "said"),
    [
        ("timm:vit", "text", "timm encodes image, not text.*of sentence-transformers"),
        ("swin_base", "image", "'swin_base', which is no folder here and no name of an image enc"),
        (
            specification.Spec(library="sentence-transformers", model="a"),
            "image",
            "sentence-transformers encodes text, not image.*of open_clip or timm",
        ),
        (
            specification.Spec(library="timm", model="a", max_tokens=30),
            "image",
            "max_tokens is 30, which timm has no use for",
        ),
        (
            specification.Spec(library="sentence-transformers", model="a", weights="w"),
            "text",
            "weights is 'w', which sentence-transformers has no use for",
        ),
    ],
)
def test_an_entry_that_does_not_fit_stops(entry, modality, said):
    with pytest.raises(files.Stop, match=said):
        specification.resolve(entry, modality)


@pytest.mark.parametrize(
    ("folder", "library", "told"),
    [
        ("vit", "timm", {"options": {"drop_path_rate": 0.3}}),
        ("vit", "timm", {"weights": "w.safetensors"}),
        ("clip", "open_clip", {"weights": "openai"}),
    ],
)
def test_a_local_folder_is_not_told_what_its_files_settle(folder, library, told, request, tmp_path):
    model, out = str(request.getfixturevalue(folder)), tmp_path / "encoder"
    encoders.fetch(specification.Spec(library=library, model=model), out)
    (key,) = told
    for place in (model, str(out)):  # as published, and as we keep it
        spec = specification.Spec(library=library, model=place, **told)
        with pytest.raises(files.Stop, match=rf"{key} is .* is a local folder, whose own"):
            encoders.fetch(spec, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_folder_without_an_encoder_stops(tmp_path):
    with pytest.raises(
        files.Stop, match=r"is not a valid encoder: it has none of encoder.json, op"
    ):
        specification.resolve(str(tmp_path), "text")
    with pytest.raises(files.Stop, match=r"encoder.json is missing. Run the stage encoder"):
        encoders.load(tmp_path)


def test_an_encoder_of_the_other_modality_stops(clip, fetch, tmp_path):
    fetch(str(clip), "image")
    with pytest.raises(files.Stop, match="holds an encoder of image, not of text"):
        encoders.load(tmp_path / "encoder", "text")


def test_params_may_hold_a_name_or_a_specification_and_no_typo():
    entry = TypeAdapter(specification.Entry)
    said = {"library": "timm", "model": "a", "options": {"pad_type": "same", "num_classes": 1001}}
    assert entry.validate_python("a/b") == "a/b"
    assert entry.validate_python(said).options == said["options"]
    with pytest.raises(ValidationError, match="max_token"):
        entry.validate_python(said | {"max_token": 30})


@pytest.mark.parametrize(
    "changes", [{"mean": [0.5]}, {"std": [0.5] * 2}, {"std": [0.5, 0.0, 0.5]}, {"pixels": 0}]
)
def test_a_preprocess_that_no_cover_can_pass_is_refused(changes):
    known = {"pixels": 8, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear"}
    assert specification.Spec.model_validate(
        {"library": "timm", "model": "a", "preprocess": known}
    ).preprocess
    with pytest.raises(ValidationError, match=f"preprocess.{next(iter(changes))}"):
        specification.Spec.model_validate(
            {"library": "timm", "model": "a", "preprocess": known | changes}
        )


@pytest.mark.parametrize("model", ["bert", "clip", "vit", "efficientnet"])
def test_a_tuned_encoder_comes_back_as_it_was(model, fetch, pack, request, tmp_path):
    modality = "text" if model == "bert" else "image"
    encoder = fetch(str(request.getfixturevalue(model)), modality)
    content = TextContent(TEXTS, encoder) if model == "bert" else ImageContent(pack, encoder)
    encoder.unfreeze(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.01 * parameter.requires_grad)
    encoders.save(encoder, tmp_path / "tuned")
    again = encoders.load(tmp_path / "tuned")

    batch = content.batch(np.array([1, 2]))
    with torch.inference_mode():
        # Not bit for bit: torch multiplies weights that need gradients in another way.
        torch.testing.assert_close(again(batch), encoder.eval()(batch), rtol=0, atol=1e-6)
    assert encoders.weights(again) == encoders.weights(encoder)
    assert again.specification == encoder.specification
    assert not any(p.requires_grad for p in again.parameters())
    assert not again.training
    assert not list(tmp_path.glob("tuned/*.bin"))
    # The same encoder again is the same bytes.
    encoders.save(encoder, tmp_path / "twin")
    assert files.sha256(tmp_path / "twin") == files.sha256(tmp_path / "tuned")


def test_what_was_tokenised_before_changes_nothing_that_is_written(bert, fetch, tmp_path):
    encoder = fetch(str(bert), "text")
    tokenizer = encoder.tokenizer.backend_tokenizer
    tokenizer.enable_truncation(max_length=4)
    tokenizer.enable_padding(length=9)
    encoders.save(encoder, tmp_path / "again")
    assert files.sha256(tmp_path / "again") == files.sha256(tmp_path / "encoder")


def test_a_written_folder_may_be_the_public_encoder_of_another_run(bert, fetch, tmp_path):
    spec = specification.Spec(library="sentence-transformers", model=str(bert), max_tokens=5)
    first = fetch(spec, "text")
    again = fetch(str(tmp_path / "encoder"), "text", "again")
    assert again.spec.max_tokens == 5
    assert encoders.weights(again) == encoders.weights(first)
    wider = first.spec.model_copy(update={"model": str(tmp_path / "encoder"), "max_tokens": 9})
    assert specification.inherit(wider).max_tokens == 9


def test_what_an_entry_leaves_out_is_the_folders_own_but_where_it_came_from(tmp_path):
    options = {"pad_type": "same"}
    came = {"weights": "a.safetensors", "revision": "0123abc"}
    written = specification.Spec(library="timm", model="m", options=options, **came)
    files.write_text(tmp_path / specification.FILE, written.model_dump_json())
    entry = specification.Spec(library="timm", model=str(tmp_path))
    assert specification.inherit(entry) == entry.model_copy(update={"options": options})


def test_the_folder_says_the_whole_specification(clip, fetch, tmp_path):
    fetch(str(clip), "image")
    said = json.loads((tmp_path / "encoder" / "encoder.json").read_text())
    assert said == {
        "library": "open_clip",
        "model": clip.name,
        "options": {},
        "preprocess": {
            "pixels": 32,
            "mean": [0.5] * 3,
            "std": [0.25] * 3,
            "interpolation": "bicubic",
        },
    }


@pytest.mark.parametrize("model", ["bert", "clip", "vit", "efficientnet"])
def test_a_written_encoder_does_not_depend_on_where_it_came_from(model, fetch, request, tmp_path):
    modality, here = "text" if model == "bert" else "image", request.getfixturevalue(model)
    there = shutil.copytree(here, tmp_path / "elsewhere" / here.name)
    written = []
    for number, place in enumerate([here, there]):
        fetch(str(place), modality, f"out{number}")
        out = tmp_path / f"out{number}"
        written.append({p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()})
    assert written[0] == written[1]


def test_local_weights_of_a_named_net_are_named_without_their_place(vit, tmp_path):
    weights = shutil.copy(vit / "model.safetensors", tmp_path)
    spec = specification.Spec(library="timm", model="some_net", weights=str(weights))
    named = specification.without_place(spec)
    assert (named.model, named.weights) == ("some_net", "model.safetensors")


def test_code_that_comes_with_weights_is_not_run():
    spec = specification.Spec(
        library="sentence-transformers", model="some/name", options={"trust_remote_code": True}
    )
    with pytest.raises(
        files.Stop, match=r"encoders.text \('some/name'\): options names trust_remo"
    ):
        specification.resolve(spec, "text")


def test_a_broken_specification_names_its_file(bert, fetch, tmp_path):
    fetch(str(bert), "text")
    (tmp_path / "encoder" / "encoder.json").write_text('{"library": "keras", "model": "x"}')
    with pytest.raises(
        files.Stop, match=r"encoder.json is not a valid specification of an encoder: library: I"
    ):
        encoders.load(tmp_path / "encoder")
