"""A picture whose header was read and whose pixels were not: the one shape that every format is opened into."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from PIL import Image
from PIL.ImageFile import ImageFile


class Picture(NamedTuple):
    """``image`` knows its size; ``load`` reads the pixels, 8 bits per channel, in any of Pillow's modes.

    ``is_still`` is false for animations and for files of several pages.
    """

    image: ImageFile
    is_still: bool
    load: Callable[[], Image.Image]


def load_pixels(image: ImageFile) -> Image.Image:
    """The same image with its pixels read."""
    image.load()
    return image
