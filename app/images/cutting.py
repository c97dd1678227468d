"""The part of a picture that a network sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.images.limits import Limits, check_pixels

if TYPE_CHECKING:
    # Not at run time: a decoder process must not load torch.
    from app.models.hosted import Preprocessing


def cut_pixels(
    pixels: NDArray[np.uint8], preprocessing: Preprocessing, limits: Limits, where: str
) -> NDArray[np.uint8]:
    """The part of an RGB image ``[H, W, 3]`` that the network sees, ``[size, size, 3]``, as `decode` cuts it.

    Raises:
        TooLargeError: more pixels than ``limits``.
    """
    height, width = pixels.shape[:2]
    check_pixels(width, height, limits, where)
    return np.asarray(cut(Image.fromarray(pixels), preprocessing))


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
    across, down = _span(width, how.size), _span(height, how.size)
    inner = (across.length, down.length)
    if (width, height) == image.size:
        corner = (across.start + across.length, down.start + down.length)
        center = image.crop((across.start, down.start, *corner))
    else:
        left, right = _scaled(across, image.width, width)
        top, bottom = _scaled(down, image.height, height)
        center = image.resize(inner, Image.Resampling[how.interpolation.upper()], (left, top, right, bottom))
    if inner == (how.size, how.size):
        return center
    canvas = Image.new("RGB", (how.size, how.size), tuple(round(255 * mean) for mean in how.mean))
    canvas.paste(center, (across.offset, down.offset))
    return canvas


def _resized(size: tuple[int, int], how: Preprocessing) -> tuple[int, int]:
    """Width and height that an image of that size is resized to."""
    if how.crop == "squash":
        return how.resize, how.resize
    width, height = size
    if how.crop == "border":
        ratio = max(width, height) / how.resize
        return max(1, round(width / ratio)), max(1, round(height / ratio))
    short = min(size)
    return how.resize * width // short, how.resize * height // short


def _span(side: int, size: int) -> _Span:
    if side >= size:
        return _Span(round((side - size) / 2), size, 0)
    return _Span(0, side, (size - side) // 2)


def _scaled(span: _Span, side: int, resized: int) -> tuple[float, float]:
    """Begin and end of a span in the image that is resized."""
    scale = side / resized
    # The product may round to just beyond the image, which Pillow refuses.
    return span.start * scale, min((span.start + span.length) * scale, side)
