"""Covers: what the libraries themselves compute, whatever else is in the batch."""

import importlib
import shutil
import warnings
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F

from pipeline.content import device, encoders, image, open_clip_images, specification, timm_images
from pipeline.content.image import ImageContent
from pipeline.data import covers, files

MOBILENET = Path(__file__).parents[3] / "shared/encoders/mobilenetv2_100.tf_in1k_ptq.safetensors"
PRESENT = np.array([1, 2, 4, 5, 7])  # items that have a cover


def encode(encoder, content, items):
    with torch.inference_mode():
        return encoder(content.batch(np.array(items))).numpy()


def prepared(pack, size, mode, mean, std):
    """The encoder's input by hand: [n, 3, size, size] float32."""
    pixels = torch.from_numpy(pack.pixels).permute(0, 3, 1, 2).float() / 255
    resized = F.interpolate(pixels, size=(size, size), mode=mode, antialias=True).clamp(0, 1)
    return (resized - mean) / std


def test_open_clip_gives_the_whole_models_image_features(clip, pack, fetch):
    model = open_clip.create_model(f"local-dir:{clip}").eval()
    with torch.inference_mode():
        expected = model.encode_image(prepared(pack, 32, "bicubic", 0.5, 0.25)).numpy()

    encoder = fetch(str(clip), "image")

    found = encode(encoder, ImageContent(pack, encoder), PRESENT)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert encoder.width == 24
    assert not any("text" in name or "token_embedding" in name for name in encoder.state_dict())
    assert encoder.spec.preprocess.model_dump() == {
        "pixels": 32, "mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic",
    }  # fmt: skip


def test_a_model_with_quick_gelu_keeps_it(clip, pack, fetch, tmp_path):
    folder = shutil.copytree(clip, tmp_path / "quick")
    config = files.read_json(folder / "open_clip_config.json")
    config["model_cfg"]["quick_gelu"] = True
    files.write_json(folder / "open_clip_config.json", config)
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    with torch.inference_mode():
        expected = model.encode_image(prepared(pack, 32, "bicubic", 0.5, 0.25)).numpy()
    encoder, plain = fetch(str(folder), "image"), fetch(str(clip), "image", "plain")
    found = encode(encoder, ImageContent(pack, encoder), PRESENT)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - encode(plain, ImageContent(pack, plain), PRESENT)).max() > 1e-4


@pytest.mark.parametrize(("tag", "is_quick"), [("openai", True), ("laion2b_s34b_b79k", False)])
def test_weights_that_were_trained_with_quick_gelu_are_asked_for_with_it(
    tag, is_quick, monkeypatch
):
    asked = {}

    def create(*_, **told):
        asked.update(told)
        raise RuntimeError("no download here")

    monkeypatch.setattr(open_clip, "create_model", create)
    with pytest.raises(files.Stop, match="no download here"):
        open_clip_images.OpenClipEncoder.fetch(
            specification.resolve(f"open_clip:ViT-B-32/{tag}", "image")
        )
    assert (asked["pretrained"], asked["force_quick_gelu"]) == (tag, is_quick)


def test_timm_gives_the_librarys_own_features(vit, pack, fetch):
    model = timm.create_model(f"local-dir:{vit}", pretrained=True).eval()
    with torch.inference_mode():
        expected = model(prepared(pack, 32, "bicubic", 0.5, 0.5)).numpy()
    encoder = fetch(str(vit), "image")
    found = encode(encoder, ImageContent(pack, encoder), PRESENT)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("model", ["clip", "vit"])
def test_another_size_is_built_and_kept(model, pack, fetch, request):
    folder = request.getfixturevalue(model)
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    preprocess = image.Preprocess(pixels=48, mean=mean, std=std, interpolation="bilinear")
    library = {"clip": "open_clip", "vit": "timm"}[model]
    spec = specification.Spec(library=library, model=str(folder), preprocess=preprocess)
    encoder = fetch(spec, "image")
    assert encoder.spec.preprocess == preprocess
    content = ImageContent(pack, encoder)
    assert encode(encoder, content, PRESENT).shape == (5, encoder.width)
    of_channels = [torch.tensor(of).view(3, 1, 1) for of in (mean, std)]
    expected = prepared(pack, 48, "bilinear", *of_channels)
    torch.testing.assert_close(encoder.normalised(content.batch(PRESENT)), expected)


def test_a_models_own_preprocessing_is_taken_and_else_that_of_clip():
    spec = specification.Spec(library="timm", model="x")
    own = {"size": (32, 32), "mean": (0.1,) * 3, "std": (0.2,) * 3, "interpolation": "bilinear"}
    assert image.resolved(spec, own).preprocess.model_dump() == {
        "pixels": 32, "mean": [0.1] * 3, "std": [0.2] * 3, "interpolation": "bilinear",
    }  # fmt: skip
    assert image.resolved(spec, {}).preprocess.model_dump() == {
        "pixels": 224,
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
        "interpolation": "bicubic",
    }
    with pytest.raises(files.Stop, match=r"'x' reads images of \(32, 48\); only squares are supp"):
        image.resolved(spec, {"size": (32, 48)})


@pytest.mark.parametrize("model", ["clip", "vit", "efficientnet"])
def test_a_vector_does_not_depend_on_its_batch(model, pack, fetch, request):
    encoder = fetch(str(request.getfixturevalue(model)), "image").double()
    content = ImageContent(pack, encoder)
    together = encode(encoder, content, PRESENT)
    alone = np.concatenate([encode(encoder, content, [item]) for item in PRESENT])
    assert together.dtype == np.float64
    np.testing.assert_allclose(together, alone, rtol=1e-10, atol=1e-12)


def test_batch_norm_that_trains_keeps_its_running_statistics(efficientnet, pack, fetch):
    encoder = fetch(str(efficientnet), "image").double()
    for module in encoder.modules():  # dropped paths are random, batch norm must not be
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    content = ImageContent(pack, encoder)
    before = encode(encoder, content, PRESENT)
    encoder.unfreeze("all")
    encoder.train()
    alone = [encoder(content.batch(PRESENT[n : n + 1])).detach() for n in range(len(PRESENT))]
    np.testing.assert_allclose(torch.cat(alone).numpy(), before, rtol=1e-10, atol=1e-12)


def test_mobilenet_from_local_weights_pads_as_tensorflow_does(pack, fetch):
    if not MOBILENET.is_file():
        pytest.skip(f"{MOBILENET} is absent")
    half = [0.5] * 3
    spec = specification.Spec(
        library="timm",
        model="mobilenetv2_100",
        weights=str(MOBILENET),
        options={"pad_type": "same", "num_classes": 1001},
        preprocess=image.Preprocess(pixels=96, mean=half, std=half, interpolation="bilinear"),
    )
    config = dict(file=str(MOBILENET), num_classes=1001)
    model = timm.create_model(
        "mobilenetv2_100",
        pretrained=True,
        num_classes=0,
        pad_type="same",
        pretrained_cfg_overlay=config,
    ).eval()
    with torch.inference_mode():
        expected = model(prepared(pack, 96, "bilinear", 0.5, 0.5)).numpy()

    encoder = fetch(spec, "image")  # the folder knows pad_type by itself

    assert encoder.width == 1280
    assert encoder.net.conv_stem.padding == (0, 0)  # "same" pads inside the convolution's forward
    found = encode(encoder, ImageContent(pack, encoder), PRESENT)
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())


def test_an_option_that_timm_does_not_know_is_named():
    spec = specification.Spec(library="timm", model="mobilenetv2_100", options={"drop_raet": 0.1})
    said = (
        r"encoders\.image\.options is {'drop_raet': 0\.1}, which timm does not take for "
        r"'mobilenetv2_100' \(.*'drop_raet'\)\. Correct it or leave it out\."
    )
    with pytest.raises(files.Stop, match=f"^{said}$"):
        timm_images.TimmEncoder.fetch(spec)


def test_open_clip_takes_no_options_and_says_so_before_a_download():
    spec = specification.Spec(
        library="open_clip", model="ViT-B-32", weights="openai", options={"drop_raet": 0.1}
    )
    with pytest.raises(
        files.Stop, match=r"image\.options is {'drop_raet': 0\.1}: open_clip takes "
    ):
        open_clip_images.OpenClipEncoder.fetch(spec)


def test_weights_that_do_not_fit_stop(tmp_path, vit):
    spec = specification.Spec(
        library="timm",
        model="mobilenetv2_100",
        weights=str(vit / "model.safetensors"),
    )
    with pytest.raises(files.Stop, match=r"timm:mobilenetv2_100 with the weights .* can't be read"):
        timm_images.TimmEncoder.fetch(spec)
    spec = spec.model_copy(update={"weights": str(tmp_path / "none.safetensors")})
    with pytest.raises(files.Stop, match=r"encoders.image.weights is .*none.safetensors.*no such"):
        timm_images.TimmEncoder.fetch(spec)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm:mobilnetv2_100", "timm knows no model 'mobilnetv2_100' .near it: mobilenetv2_100"),
        ("open_clip:ViT-B32/openai", "open_clip knows no model 'ViT-B32' .near it: ViT-B-32"),
        ("open_clip:ViT-B-32", "names no weights.*tags of this model: openai, laion400m"),
        ("open_clip:ViT-B-32/openia", "knows no weights 'openia'.*tags of this model: openai"),
    ],
)
def test_bad_names_name_the_good_ones(name, said):
    spec = specification.resolve(name, "image")
    fetch = {
        "timm": timm_images.TimmEncoder.fetch,
        "open_clip": open_clip_images.OpenClipEncoder.fetch,
    }[spec.library]
    with pytest.raises(files.Stop, match=said):
        fetch(spec)


@pytest.mark.parametrize("name", ["timm:test_vit", "open_clip:ViT-B-32/openai"])
def test_a_name_that_cannot_be_downloaded_says_where_it_looked(name, monkeypatch, tmp_path):
    constants = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(files.Stop) as stop:
        encoders.fetch(specification.resolve(name, "image"), tmp_path / "out")
    said = str(stop.value)
    for part in (name, "HF_HUB_OFFLINE", str(tmp_path), "path of its folder"):
        assert part in said
    assert not (tmp_path / "out").exists()


def test_a_folder_with_missing_weights_stops(clip, tmp_path):
    (tmp_path / "open_clip_config.json").write_bytes((clip / "open_clip_config.json").read_bytes())
    with pytest.raises(files.Stop, match=r"the open_clip encoder in .*safetensors is missing"):
        open_clip_images.OpenClipEncoder.fetch(specification.resolve(str(tmp_path), "image"))


def test_covers_are_read_by_their_rows(pack, clip, fetch):
    content = ImageContent(pack, fetch(str(clip), "image"))
    assert content.present.tolist() == [False, True, True, False, True, True, False, True]
    batch = content.batch(np.array([7, 1]))["pixels"]
    np.testing.assert_array_equal(batch.numpy(), pack.pixels[[4, 0]])
    with pytest.raises(ValueError, match=r"items without cover: \[3\]"):
        content.batch(np.array([1, 3]))


def test_the_digest_is_that_of_the_covers_in_their_order(pack, clip, fetch):
    encoder = fetch(str(clip), "image")
    digest = ImageContent(pack, encoder).digest()
    # The same covers in other rows of the pack are the same covers.
    moved = covers.Pack(pack.pixels[::-1], np.where(pack.rows < 0, -1, 4 - pack.rows))
    assert ImageContent(moved, encoder).digest() == digest
    changed = pack.pixels.copy()
    changed[3, 0, 0, 0] ^= 1
    assert ImageContent(pack._replace(pixels=changed), encoder).digest() != digest
    rows = pack.rows.copy()
    rows[1], rows[2] = rows[2], rows[1]
    assert ImageContent(pack._replace(rows=rows), encoder).digest() != digest
    # The same covers in the same order, that of item 4 being item 3's.
    rows = np.array([-1, 0, 1, 2, -1, 3, -1, 4], dtype=np.int32)
    assert ImageContent(pack._replace(rows=rows), encoder).digest() != digest


def test_covers_that_stay_on_a_device_are_the_same(pack, clip, fetch, monkeypatch, tmp_path):
    np.save(tmp_path / "pixels.npy", pack.pixels)
    mapped = pack._replace(pixels=np.load(tmp_path / "pixels.npy", mmap_mode="r"))  # read-only
    content = ImageContent(mapped, fetch(str(clip), "image"))
    some = np.array([7, 1, 5])
    expected = content.batch(some)["pixels"]
    content.stay(torch.device("cpu"))
    assert content.resident is None  # a CPU maps them from disk
    asked = []
    monkeypatch.setattr(device, "has_room", lambda where, size: not asked.append(size))
    monkeypatch.setattr(image, "READ", 2)
    torch.set_warn_always(True)  # not once a process
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        content.stay(torch.device("cpu"))
    torch.set_warn_always(False)
    assert asked == [pack.pixels.nbytes]
    assert torch.equal(content.batch(some)["pixels"], expected)
