"""Formats that Pillow's own readers take as they are: WebP, GIF and BMP.

The plugins' classes themselves are used, not `Image.open`: its bomb check has a global limit.
"""

from __future__ import annotations

from functools import partial
from io import BytesIO

from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.WebPImagePlugin import WebPImageFile

from app.images.picture import Picture, load_pixels


def open_webp(data: bytes) -> Picture:
    """A WebP file."""
    image = WebPImageFile(BytesIO(data))
    return Picture(image, not image.is_animated, partial(load_pixels, image))


def open_gif(data: bytes) -> Picture:
    """A GIF file."""
    image = GifImageFile(BytesIO(data))
    return Picture(image, not image.is_animated, partial(load_pixels, image))


def open_bmp(data: bytes) -> Picture:
    """A BMP file."""
    image = BmpImageFile(BytesIO(data))
    return Picture(image, is_still=True, load=partial(load_pixels, image))
