"""The part of a picture that a network sees."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.images.limits import ImageLimits, check_pixels
from app.images.preprocessing import Preprocessing, pair


def cut_pixels(
    pixels: NDArray[np.uint8], preprocessing: Preprocessing, limits: ImageLimits, location: str
) -> NDArray[np.uint8]:
    """The part of an image ``[H, W, 3]`` or ``[H, W, 1]`` that the network sees, as `decode` cuts it.

    Raises:
        TooLargeError: more pixels than ``limits``.
    """
    height, width = pixels.shape[:2]
    check_pixels(width, height, limits, location)
    image = Image.fromarray(pixels[:, :, 0]).convert("RGB") if pixels.shape[2] == 1 else Image.fromarray(pixels)
    return seen_pixels(image, preprocessing)


def seen_pixels(image: Image.Image, how: Preprocessing) -> NDArray[np.uint8]:
    """What the network sees of an RGB image: ``[height, width, channels]``, read-only."""
    part = cut(image, how)
    if how.channels == 1:
        return np.asarray(part.convert("L"))[:, :, None]
    return np.asarray(part)


class _Span(NamedTuple):
    """Along one axis: where the visible part of the resized image begins, how long it is, and where it goes."""

    start: int
    length: int
    offset: int


def cut(image: Image.Image, how: Preprocessing) -> Image.Image:
    """Resize as ``how.crop`` says and cut out the centre, in one step; see `app.models.hosted.Preprocessing`.

    Only the centre is ever computed: a 1 x 1,000,000 image resized as a whole would need terabytes.
    """
    width, height = _resized(image.size, how)
    across, down = _span(width, how.width), _span(height, how.height)
    inner = (across.length, down.length)
    if (width, height) == image.size:
        corner = (across.start + across.length, down.start + down.length)
        center = image.crop((across.start, down.start, *corner))
    else:
        left, right = _scaled(across, image.width, width)
        top, bottom = _scaled(down, image.height, height)
        center = image.resize(inner, Image.Resampling[how.interpolation.upper()], (left, top, right, bottom))
    if inner == (how.width, how.height):
        return center
    red, green, blue = (round(255 * mean) for mean in how.mean * (3 // how.channels))
    canvas = Image.new("RGB", (how.width, how.height), (red, green, blue))
    canvas.paste(center, (across.offset, down.offset))
    return canvas


def _resized(size: tuple[int, int], how: Preprocessing) -> tuple[int, int]:
    """Width and height that an image of that size is resized to."""
    width, height = size
    rows, columns = pair(how.resize)
    if how.crop == "squash":
        return columns, rows
    if how.crop == "border":
        ratio = max(width / columns, height / rows)
        return max(1, round(width / ratio)), max(1, round(height / ratio))
    if rows * width >= columns * height:  # the height is what has to be covered
        return rows * width // height, rows
    return columns, columns * height // width


def _span(side: int, size: int) -> _Span:
    if side >= size:
        return _Span(round((side - size) / 2), size, 0)
    return _Span(0, side, (size - side) // 2)


def _scaled(span: _Span, side: int, resized: int) -> tuple[float, float]:
    """Begin and end of a span in the image that is resized."""
    scale = side / resized
    # The product may round to just beyond the image, which Pillow refuses.
    return span.start * scale, min((span.start + span.length) * scale, side)
