"""Damaged and random bytes: an answer or one of our own errors, never anything else."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from app.errors import RenormError
from app.images import ImageLimits, decode
from app.models.hosted import Preprocessing


def encoded(kind: str, colours: int = 0, **options: Any) -> bytes:
    rows, columns = np.mgrid[:24, :20]
    image = Image.fromarray(np.stack([10 * rows, 12 * columns, 128 + 0 * rows], 2).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    (image.quantize(colours) if colours else image).save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


SAMPLES = {
    "PNG": encoded("PNG"),
    "PNG with a palette": encoded("PNG", colours=16, transparency=bytes(range(16))),
    "JPEG": encoded("JPEG"),
    "progressive JPEG": encoded("JPEG", progressive=True),
    "WebP": encoded("WEBP"),
    "lossless WebP": encoded("WEBP", lossless=True),
    "GIF": encoded("GIF", colours=8),
    "TIFF": encoded("TIFF", compression="tiff_lzw"),
    "BMP": encoded("BMP"),
}
FUZZ = settings(max_examples=200, deadline=None, derandomize=True, database=None)


def outcome(data: bytes) -> tuple[object, ...]:
    try:
        # Warnings are errors in tests, so one of Pillow's would surface here, too.
        return tuple(decode(data, Preprocessing(8, 8, "bilinear", (0, 0, 0), (1, 1, 1)), LIMITS).shape)
    except RenormError as error:
        return error.message != "", error.hint != ""


LIMITS = ImageLimits(100_000, 10_000)
OUTCOMES = [(8, 8, 3), (True, True)]


@FUZZ
@given(
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF0000WEBPVP8 ", b"GIF89a", b"II*\0", b"BM"]),
    st.binary(max_size=200),
)
@example(b"", b"")
def test_random_bytes_never_raise_anything_else(magic: bytes, rest: bytes) -> None:
    assert outcome(magic + rest) in OUTCOMES


@pytest.mark.parametrize("name", SAMPLES)
def test_every_truncation_is_refused_or_lost_nothing_that_matters(name: str) -> None:
    found = [outcome(SAMPLES[name][:kept]) for kept in range(len(SAMPLES[name]) + 1)]
    assert set(found) <= set(OUTCOMES)
    assert found[-1] == (8, 8, 3)
    assert found[len(found) // 2] == (True, True)


@FUZZ
@given(
    st.sampled_from(list(SAMPLES.values())),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 7)), min_size=1, max_size=8),
)
def test_flipped_bits_never_raise_anything_else(data: bytes, flips: list[tuple[float, int]]) -> None:
    damaged = bytearray(data)
    for place, bit in flips:
        damaged[int(place * len(damaged))] ^= 1 << bit
    assert outcome(bytes(damaged)) in OUTCOMES
