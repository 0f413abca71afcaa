"""Covers of every kind become small RGB pictures, upright and on white."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from pipeline.data import decoding
from tests.data.drawn import BLUE, RED, halves

ROOT = Path(__file__).parents[2]
MEASURE = """
import resource, sys
from pathlib import Path
from PIL import Image
from pipeline.data import decoding
Image.init()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decoding.read(Path(sys.argv[1]), 64)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def sides(pixels):
    """The mean colours of the outer quarters."""
    quarter = pixels.shape[1] // 4
    return pixels[:, :quarter].mean((0, 1)), pixels[:, -quarter:].mean((0, 1))


@pytest.mark.parametrize(
    ("mode", "name", "options"),
    [
        ("RGB", "x.jpg", {"quality": 95}),
        ("RGB", "x.png", {}),
        ("CMYK", "x.jpg", {"quality": 95}),
        ("P", "x.png", {}),
        ("RGBA", "x.png", {}),
        ("RGB", "x.jpeg", {"format": "WEBP", "lossless": True}),
        ("RGB", "x.png", {"format": "TIFF"}),
        ("RGB", "x.jpg", {"format": "MPO", "save_all": True, "quality": 95}),
    ],
)
def test_any_mode_becomes_rgb(tmp_path, mode, name, options):
    halves(mode).save(tmp_path / name, **options)
    pixels = decoding.read(tmp_path / name, 16)
    assert (pixels.shape, pixels.dtype) == ((16, 16, 3), np.uint8)
    left, right = sides(pixels)
    np.testing.assert_allclose(left, RED, atol=12)
    np.testing.assert_allclose(right, BLUE, atol=12)


@pytest.mark.parametrize("mode", ["L", "I;16", "I"])
def test_grey_of_any_depth(tmp_path, mode):
    grey = np.full((8, 8), 128, np.uint8)
    deep = grey.astype(np.uint16) * 257
    image = {
        "L": Image.fromarray(grey),
        "I;16": Image.fromarray(deep),
        "I": Image.fromarray(deep.astype(np.int32)),
    }[mode]
    assert image.mode == mode
    image.save(tmp_path / "x.png", "TIFF" if mode == "I" else "PNG")
    np.testing.assert_array_equal(decoding.read(tmp_path / "x.png", 4), np.full((4, 4, 3), 128))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white(tmp_path, mode):
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0)).convert(mode)
    clear.save(tmp_path / "x.png", **({"transparency": 0} if mode == "P" else {}))
    assert (decoding.read(tmp_path / "x.png", 4) == 255).all()


def test_what_is_transparent_in_16_bits_becomes_white(tmp_path):
    deep = np.full((8, 8), 1000, np.uint16)
    deep[:, 4:] = 128 * 257
    Image.fromarray(deep).save(tmp_path / "x.png", transparency=1000)
    pixels = decoding.read(tmp_path / "x.png", 8)
    assert (pixels[:, :4] == 255).all()
    assert (pixels[:, 4:] == 128).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(tmp_path, form, orientation):
    corner = Image.new("RGB", (64, 32), "white")
    corner.paste("black", (0, 0, 32, 16))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    corner.save(tmp_path / "x.jpg", form, exif=exif)
    pixels = decoding.read(tmp_path / "x.jpg", 16)
    # where the picture's upper left corner is to be shown, by the standard
    row, column = {
        1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)
    }[orientation]  # fmt: skip
    quarters = pixels.reshape(2, 8, 2, 8, 3).mean(axis=(1, 3, 4))
    assert quarters[row, column] < 40
    assert quarters.sum() - quarters[row, column] > 3 * 200


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize(
    "exif", [b"garbage", b"Exif\0\0garbage", b"MM\0*\0\0\0\x08\xff\xff\x01\x12"]
)
def test_a_picture_with_broken_exif_is_a_picture(tmp_path, form, exif):
    halves().save(tmp_path / "x.png", form, exif=exif, quality=95)
    left, right = sides(decoding.read(tmp_path / "x.png", 16))
    np.testing.assert_allclose(left, RED, atol=12)
    np.testing.assert_allclose(right, BLUE, atol=12)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_an_animation_counts(tmp_path, form):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    frames[0].save(tmp_path / "x.jpg", form, save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(decoding.read(tmp_path / "x.jpg", 4).mean((0, 1)), RED, atol=3)


def test_resizing_is_bilinear_and_drops_the_aspect(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (90, 30, 3), np.uint8)
    image = Image.fromarray(noise)
    image.save(tmp_path / "x.png")
    expected = np.asarray(image.resize((12, 12), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(decoding.read(tmp_path / "x.png", 12), expected)


def test_large_jpegs_decode_smaller_to_nearly_the_same(tmp_path):
    smooth = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 16, 3), np.uint8))
    large = smooth.resize((1920, 1080), Image.Resampling.BICUBIC)
    large.save(tmp_path / "x.jpg", quality=95)
    with Image.open(tmp_path / "x.jpg") as whole:
        expected = np.asarray(whole.resize((64, 64), Image.Resampling.BILINEAR), np.float64)
    assert np.abs(decoding.read(tmp_path / "x.jpg", 64) - expected).mean() < 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "I;16"])
def test_a_large_picture_shrinks_strip_by_strip_to_nearly_the_same(tmp_path, monkeypatch, mode):
    smooth = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 16, 3), np.uint8))
    large = smooth.resize((1001, 807), Image.Resampling.BICUBIC)
    if mode == "I;16":
        large = Image.fromarray(np.asarray(large.convert("L")).astype(np.uint16) * 257)
    else:
        large = large.convert(mode)
    if mode == "RGBA":
        large.paste((0, 0, 0, 0), (500, 0, 1001, 807))
    form = "TIFF" if mode == "CMYK" else "PNG"
    large.save(tmp_path / "x.png", form)
    expected = decoding.read(tmp_path / "x.png", 32).astype(float)
    monkeypatch.setattr(decoding, "LARGE", 50_000)
    found = decoding.read(tmp_path / "x.png", 32)
    assert np.abs(found - expected).mean() < 1.5
    assert np.abs(found - expected).max() < 20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss in kB is Linux's")
@pytest.mark.parametrize(("mode", "bytes_a_pixel"), [("RGBA", 4), ("I;16", 2), ("P", 1)])
def test_a_large_picture_is_in_memory_once(tmp_path, mode, bytes_a_pixel):
    side = 5000
    Image.new(mode, (side, side)).save(tmp_path / "x.png", compress_level=1)
    words = [sys.executable, "-c", MEASURE, str(tmp_path / "x.png")]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    grown = int(done.stdout) * 1024
    strips = 4 * 4 * decoding.LARGE  # some copies of a strip with 4 bytes a pixel
    assert grown < side * side * bytes_a_pixel + strips


def test_a_bomb_is_not_decoded(tmp_path, monkeypatch):
    Image.new("L", (400, 400)).save(tmp_path / "x.png")
    monkeypatch.setattr(decoding, "MAX_PIXELS", 400 * 400 - 1)
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(decoding.CoverError, match="400 x 400 pixels, more than 159,999: not dec"):
        decoding.read(tmp_path / "x.png", 8)
