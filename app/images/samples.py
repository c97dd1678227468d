"""Convert samples of 9 to 16 bits to 8: the number of significant bits, and the choice of the bits to keep.

A file of 16 bits per sample often holds numbers of a camera of 10, 12 or 14 bits. How many bits count is, in this
order: what the file says (PNG: sBIT; TIFF: BitsPerSample, then SMaxSampleValue and MaxSampleValue), as long as no
sample is larger; else 12 where all samples are below 4096; else 16. Of ``n`` bits, ``2 ** n - 1`` is white.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CAMERA_BITS = 12
"""Bits of samples that do not say how many they have and would all fit."""

_BLOCK = 1 << 20  # samples at a time: indexing makes eight bytes of each


class Depth(NamedTuple):
    """``bits`` per sample as the file tells them, None where it does not.

    ``is_scaled`` where the format demands that samples of fewer bits are scaled to 16, which not every writer does.
    """

    bits: int | None = None
    is_scaled: bool = False


def significant_bits(largest: int, depth: Depth) -> int:
    """Return the number of significant bits, 8 to 16, of 16-bit samples whose ``largest`` is known."""
    if depth.bits is not None:
        bits = min(max(depth.bits, 8), 16)
        return bits if largest < 1 << bits else 16
    return CAMERA_BITS if largest < 1 << CAMERA_BITS else 16


def narrow(samples: NDArray[Any], bits: int, *, is_inverted: bool = False) -> NDArray[np.uint8]:
    """Samples ``[...]`` of ``bits`` bits as bytes; those of an inverted picture have white at zero."""
    table = _lookup_table(bits, is_inverted=is_inverted)
    flat = np.ascontiguousarray(samples).reshape(-1)
    out = np.empty(flat.shape, np.uint8)
    for start in range(0, len(flat), _BLOCK):
        out[start : start + _BLOCK] = table[flat[start : start + _BLOCK]]
    return out.reshape(samples.shape)


def narrow_gray(samples: NDArray[Any], depth: Depth, *, is_inverted: bool = False) -> Image.Image:
    """Samples ``[H, W]`` of up to 16 bits as a gray image."""
    bits = _final_bits(significant_bits(int(samples.max()), depth), samples, depth)
    return Image.fromarray(narrow(samples, bits, is_inverted=is_inverted))


def narrow_colour(high: Image.Image, read_low: Callable[[], Image.Image], depth: Depth) -> Image.Image:
    """A picture of whose 16-bit samples Pillow keeps the ``high`` byte; the low one is read only where it counts.

    Alpha is dropped where it had to be read.
    """
    bands = len([band for band in high.getbands() if band != "A"])
    top = int(np.asarray(high)[..., :bands].max())
    bits = significant_bits(top << 8, depth)
    if bits == 16:
        return high
    samples = np.asarray(high)[..., :bands].astype(np.uint16) << 8
    samples |= np.asarray(read_low())[..., :bands]
    pixels = narrow(samples, _final_bits(bits, samples, depth))
    return Image.frombytes("CMYK" if bands == 4 else "RGB", high.size, pixels.tobytes())


def _final_bits(bits: int, samples: NDArray[Any], depth: Depth) -> int:
    """The bits that count after all: a dark picture whose samples were scaled must not be taken for one unscaled."""
    return 16 if bits < 16 and depth.is_scaled and _is_left_justified(samples, bits) else bits


def _is_left_justified(samples: NDArray[Any], bits: int) -> bool:
    """Tell whether ``bits`` bits can have been scaled to 16: the lower bits are zero, or repeat the upper."""
    shift = 16 - bits
    low = samples & ((1 << shift) - 1)
    return bool(np.all((low == 0) | (low == (samples >> shift) >> max(0, bits - shift))))


def _lookup_table(bits: int, *, is_inverted: bool) -> NDArray[np.uint8]:
    largest = (1 << bits) - 1
    numbers = np.arange(largest + 1)
    # Of 16 bits the high byte is kept, as Pillow does for colours.
    table = numbers >> 8 if bits == 16 else (510 * numbers + largest) // (2 * largest)
    return (table[::-1] if is_inverted else table).astype(np.uint8)
