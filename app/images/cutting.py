"""Resize and crop a picture to the network's input."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.images.limits import ImageLimits, check_pixels
from app.images.preprocessing import Preprocessing, pair


def cut_pixels(pixels: NDArray[np.uint8], preprocessing: Preprocessing, limits: ImageLimits) -> NDArray[np.uint8]:
    """Resize and crop pixels ``[H, W, 3]`` or ``[H, W, 1]`` as `decode` does.

    Raises:
        TooLargeError: more pixels than ``limits``.
    """
    height, width = pixels.shape[:2]
    check_pixels(width, height, limits)
    image = Image.fromarray(pixels[:, :, 0]).convert("RGB") if pixels.shape[2] == 1 else Image.fromarray(pixels)
    return network_pixels(image, preprocessing)


def network_pixels(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Return the network's pixels of an RGB image: ``[height, width, channels]``, read-only."""
    part = cut(image, preprocessing)
    if preprocessing.channels == 1:
        return np.asarray(part.convert("L"))[:, :, None]
    return np.asarray(part)


class _Span(NamedTuple):
    """The visible part of the resized image along one axis: its start, its length, and its offset in the output."""

    start: int
    length: int
    offset: int


def cut(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Resize as ``preprocessing.crop`` says and crop the centre, in one step; see `app.models.hosted.Preprocessing`.

    Only the centre is ever computed: a 1 x 1,000,000 image resized as a whole would need terabytes.
    """
    width, height = _resized_shape(image.size, preprocessing)
    across, down = _span(width, preprocessing.width), _span(height, preprocessing.height)
    inner = (across.length, down.length)
    if (width, height) == image.size:
        corner = (across.start + across.length, down.start + down.length)
        center = image.crop((across.start, down.start, *corner))
    else:
        x0, x1 = _scale_span(across, image.width, width)
        y0, y1 = _scale_span(down, image.height, height)
        center = image.resize(inner, Image.Resampling[preprocessing.interpolation.upper()], (x0, y0, x1, y1))
    if inner == (preprocessing.width, preprocessing.height):
        return center
    red, green, blue = (round(255 * mean) for mean in preprocessing.mean * (3 // preprocessing.channels))
    canvas = Image.new("RGB", (preprocessing.width, preprocessing.height), (red, green, blue))
    canvas.paste(center, (across.offset, down.offset))
    return canvas


def _resized_shape(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """Return the width and height that an image of ``size`` is resized to."""
    width, height = size
    rows, columns = pair(preprocessing.resize)
    if preprocessing.crop == "squash":
        return columns, rows
    if preprocessing.crop == "border":
        ratio = max(width / columns, height / rows)
        return max(1, round(width / ratio)), max(1, round(height / ratio))
    if rows * width >= columns * height:  # the height must be covered
        return rows * width // height, rows
    return columns, columns * height // width


def _span(side: int, size: int) -> _Span:
    if side >= size:
        return _Span(round((side - size) / 2), size, 0)
    return _Span(0, side, (size - side) // 2)


def _scale_span(span: _Span, side: int, resized: int) -> tuple[float, float]:
    """Return the start and end of a span in the source image."""
    scale = side / resized
    # The product may round to just beyond the image, which Pillow refuses.
    return span.start * scale, min((span.start + span.length) * scale, side)
