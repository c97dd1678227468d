"""The part of a picture that a network sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def cut(image: Image.Image, how: Preprocessing) -> Image.Image:
    """Resize the short side to ``how.resize`` and cut out the centre, in one step.

    Only the centre is ever computed: a 1 x 1,000,000 image resized as a whole would need terabytes.
    """
    short = min(image.size)
    width, height = (how.resize * side // short for side in image.size)
    left, top = round((width - how.size) / 2), round((height - how.size) / 2)
    if short == how.resize:
        return image.crop((left, top, left + how.size, top + how.size))
    # The products may round to just beyond the image, which Pillow refuses.
    across, down = image.width / width, image.height / height
    right, bottom = min((left + how.size) * across, image.width), min((top + how.size) * down, image.height)
    box = (left * across, top * down, right, bottom)
    return image.resize((how.size, how.size), Image.Resampling[how.interpolation.upper()], box)
