"""Decoding one cover: any image that a shop may have, upright, on white, at one size."""

from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

# What a file may really be, whatever its suffix says; formats that call other programs stay out.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
MAX_PIXELS = 50_000_000  # 150 MB as RGB; a header that announces more is refused, not decoded
LARGE = 4_000_000  # pixels; an image of more is shrunk while it is converted
TURNS = {  # EXIF's orientation -> what makes it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class CoverError(ValueError):
    """A cover that can't be read; the message says why."""


def read(path: Path, size: int) -> np.ndarray:
    """Decode an image to [size, size, 3] uint8 RGB: upright, on white, bilinear.

    Raises:
        CoverError: the file is empty, announces more than MAX_PIXELS, or is no whole image.
        MemoryError: there is not enough memory for it, which says nothing of the file.
    """
    try:
        return _decode(path, size)
    except MemoryError:
        raise
    except Exception as error:  # fed with garbage, decoders raise anything
        raise CoverError(_reason(error)) from error


def _decode(path: Path, size: int) -> np.ndarray:
    if path.stat().st_size == 0:
        raise ValueError("the file is empty (0 bytes)")
    with Image.open(path, formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ValueError(f"{width} x {height} pixels, more than {MAX_PIXELS:,}: not decoded")
        image.draft(None, (2 * size, 2 * size))  # JPEGs far larger than needed decode smaller
        image.load()
        small = _shrink(image, size)
        turn = TURNS.get(_orientation(image))
    return np.asarray(small if turn is None else small.transpose(turn))


def _shrink(image: Image.Image, size: int) -> Image.Image:
    """Convert to RGB and resize, a large image strip by strip: whole it is in memory only once."""
    width, height = image.size
    across = down = 1
    if width * height > LARGE:
        across, down = (max(1, side // (2 * size)) for side in image.size)
    if (across, down) == (1, 1):
        return _rgb(image).resize((size, size), Image.Resampling.BILINEAR)
    small = Image.new("RGB", (-(-width // across), -(-height // down)))
    rows = max(1, LARGE // (width * down))  # of `small`, a strip
    for top in range(0, small.height, rows):
        strip = image.crop((0, top * down, width, min((top + rows) * down, height)))
        small.paste(_rgb(strip).reduce((across, down)), (0, top))
    whole = (0, 0, width / across, height / down)
    return small.resize((size, size), Image.Resampling.BILINEAR, whole)


def _rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB; 16 bits become 8, what is transparent becomes white."""
    if image.mode.startswith("I"):
        deep = np.asarray(image)
        grey = (deep.clip(0, 65_535) // 257).astype(np.uint8)  # 65,535 -> 255
        if "transparency" in image.info:
            grey[deep == image.info["transparency"]] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        top = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", top.size, "white"), top).convert("RGB")
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """Read how a loaded image is to be turned; 1, not at all, where its EXIF can't be read."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001  # of broken EXIF anything may come, and the pixels are fine
        return 1


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS:,} pixels: not decoded"
    return str(error) or type(error).__name__
