"""The images that are sent: the bundled sample of corrupted CIFAR-10 images, encoded."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

SAMPLE = Path(__file__).resolve().parent / "sample"
FORMATS = {"png": {"compress_level": 1}, "jpeg": {"quality": 90}}


class Pictures(NamedTuple):
    """How images are sent: ``format`` png or jpeg, enlarged to ``side`` pixels."""

    format: str = "png"
    side: int = 32

    def of(self, camera: int) -> Sequence[bytes]:
        """The encoded images of one camera: each has a corruption of its own, in turn."""
        corruptions = _encoded(self)
        return corruptions[camera % len(corruptions)]


PLAIN = Pictures()
"""Lossless, in their own size."""


@lru_cache
def _encoded(pictures: Pictures) -> list[list[bytes]]:
    files = sorted(path for path in SAMPLE.glob("*.npy") if path.stem != "labels")
    return [[_encode(Image.fromarray(pixels), pictures) for pixels in np.load(path)] for path in files]


def _encode(image: Image.Image, pictures: Pictures) -> bytes:
    if pictures.side != image.width:
        image = image.resize((pictures.side, pictures.side), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, pictures.format, **FORMATS[pictures.format])
    return buffer.getvalue()
