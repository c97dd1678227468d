"""Formats that Pillow's own readers take as they are: WebP, GIF and BMP.

The plugins' classes themselves are used, not `Image.open`: its bomb check has a global limit.
"""

from __future__ import annotations

from functools import partial
from io import BytesIO

from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.WebPImagePlugin import WebPImageFile

from app.images.picture import Picture, load_pixels


def _open(kind: type[ImageFile], data: bytes) -> Picture:
    image = kind(BytesIO(data))
    return Picture(image, not getattr(image, "is_animated", False), partial(load_pixels, image))


open_webp, open_gif, open_bmp = (partial(_open, kind) for kind in (WebPImageFile, GifImageFile, BmpImageFile))
"""Functions of a file's bytes."""
