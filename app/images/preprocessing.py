"""The preprocessing of a picture for a network. Imports no torch, so that decoder processes start at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos")
CROPS = ("center", "squash", "border")

Sides = int | tuple[int, int]
"""Both sides in pixels, or height and width."""


@dataclass(frozen=True)
class Preprocessing:
    """From a decoded image to the network's input.

    The image is resized, the centre of ``size`` is cut out, pixels are scaled to [0, 1] and normalized by ``mean`` and
    ``std`` per channel: three for RGB, one for grey, which is the luma of the colours (ITU-R 601). ``crop`` says how it
    is resized, in timm's words: with ``center`` it covers ``resize`` (of a square: its short side does), with
    ``squash`` both sides become ``resize``, and with ``border`` it fits into ``resize``, the rest filled with ``mean``.

    Raises:
        ValueError: sides with 0 < size <= resize, a known interpolation and crop, finite means and positive deviations
            expected, one or three of each.
    """

    size: Sides
    resize: Sides
    interpolation: str  # one of INTERPOLATIONS
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: str = "center"  # one of CROPS

    def __post_init__(self) -> None:
        sides = zip(pair(self.size), pair(self.resize), strict=True)
        if not all(0 < size <= resize for size, resize in sides):
            raise ValueError(
                f"size {self.size} and resize {self.resize}: the crop must be positive and at most as large as "
                "the resized image"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation '{self.interpolation}': expected one of {', '.join(INTERPOLATIONS)}")
        if self.crop not in CROPS:
            raise ValueError(f"crop '{self.crop}': expected one of {', '.join(CROPS)}")
        if not (len(self.mean) == len(self.std) and len(self.mean) in (1, 3)):
            raise ValueError(
                f"mean {self.mean} and std {self.std}: expected three numbers each, for red, green, blue, or one each, "
                "for grey"
            )
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise ValueError(f"mean {self.mean} and std {self.std}: expected finite means and positive deviations")

    @property
    def height(self) -> int:
        """Rows of the network's input."""
        return pair(self.size)[0]

    @property
    def width(self) -> int:
        """Columns of the network's input."""
        return pair(self.size)[1]

    @property
    def channels(self) -> int:
        """Colours of the network's input: 3 for RGB, 1 for grey."""
        return len(self.mean)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the network's input."""
        return self.channels, self.height, self.width


def pair(sides: Sides) -> tuple[int, int]:
    """Height and width."""
    if isinstance(sides, int):
        return sides, sides
    height, width = sides
    return height, width
