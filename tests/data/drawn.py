"""Pictures drawn for tests of covers."""

from PIL import Image

RED, BLUE = (220, 30, 30), (30, 30, 220)


def halves(mode="RGB", size=(48, 32)):
    """Draw a picture, red at the left and blue at the right."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image.convert(mode)
