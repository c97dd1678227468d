"""The images of the requests: CIFAR-10 test images of the sample, clean and corrupted, in every format."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

SAMPLE = Path(__file__).resolve().parents[1] / "sample"
CONDITIONS = ("fog", "gaussian_noise", "contrast", "clean")
ORIENTATION = 0x0112  # EXIF

_PNG: tuple[str, dict[str, Any]] = ("PNG", {})
FORMATS: tuple[tuple[str, dict[str, Any]], ...] = (
    _PNG,
    ("JPEG", {"quality": 95, "subsampling": 0}),
    _PNG,
    ("JPEG", {"quality": 75}),
    ("WEBP", {"quality": 80}),
    ("BMP", {}),
    ("JPEG", {"quality": 90, "progressive": True}),
)
RARE_FORMATS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {}),
    ("WEBP", {"lossless": True}),
    ("GIF", {}),
)


class ImageSource:
    """A stream's images of one condition, in an order of its own, again from the start after the last."""

    def __init__(self, condition: str, seed: int, *, by_class: bool) -> None:
        self._pixels: Pixels = np.load(SAMPLE / f"{condition}.npy")
        order = np.random.default_rng(seed).permutation(len(self._pixels))
        labels = np.load(SAMPLE / "labels.npy")
        self._order = order[np.argsort(labels[order], kind="stable")] if by_class else order
        self._cursor = 0

    def take(self, count: int) -> Pixels:
        """Return the next ``count`` images, ``[count, 32, 32, 3]``."""
        positions = np.arange(self._cursor, self._cursor + count) % len(self._order)
        self._cursor += count
        return self._pixels[self._order[positions]]


def encode(pixels: Pixels, number: int) -> bytes:
    """Return one image as a file, whose format, size and orientation are chosen by ``number``."""
    picture = Image.fromarray(pixels)
    if number % 5 == 3:
        picture = picture.resize((48, 40), Image.Resampling.BICUBIC)
    name, options = FORMATS[number % len(FORMATS)]
    if name == "JPEG" and number % 3 == 1:
        exif = Image.Exif()
        exif[ORIENTATION] = 1 + number % 8
        options = {**options, "exif": exif}
    return save(picture, name, **options)


def encode_all(frames: Pixels, number: int) -> list[bytes]:
    """Return each image as a file, in formats that follow one another from ``number`` on."""
    return [encode(frame, number + i) for i, frame in enumerate(frames)]


def save(picture: Image.Image, name: str, **options: Any) -> bytes:
    """Return a picture as a file of that format."""
    buffer = io.BytesIO()
    picture.save(buffer, name, **options)
    return buffer.getvalue()


def unusual_files(pixels: Pixels) -> dict[str, bytes]:
    """Return files that take other ways through the decoder: by name, of one image."""
    picture = Image.fromarray(pixels)
    files = {f"{name}-{i}": save(picture, name, **options) for i, (name, options) in enumerate(RARE_FORMATS)}
    gray = np.asarray(picture.convert("L")).astype(np.uint16)
    files["PNG-16"] = save(Image.fromarray(gray * 257), "PNG")
    files["PNG-12"] = save(Image.fromarray(gray * 16), "PNG")
    files["PNG-gray"] = save(picture.convert("L"), "PNG")
    files["PNG-palette"] = save(picture.quantize(64), "PNG")
    files["PNG-alpha"] = save(picture.convert("RGBA"), "PNG")
    files["JPEG-gray"] = save(picture.convert("L"), "JPEG")
    files["JPEG-CMYK"] = save(picture.convert("CMYK"), "JPEG")
    files["JPEG-large"] = save(picture.resize((640, 360)), "JPEG")
    files["PNG-small"] = save(picture.resize((7, 5)), "PNG")
    files["PNG-wide"] = save(picture.resize((301, 33)), "PNG")
    return files


def prepare(frames: Pixels, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """Return the network's own input, ``[n, 3, 32, 32]``."""
    offset, scale = (np.asarray(values, np.float32).reshape(1, 3, 1, 1) for values in (mean, std))
    planes = frames.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    return np.ascontiguousarray((planes - offset) / scale)
