"""JPEG: what is beside the picture is left alone, and only the end marker may be missing."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.errors import ImageError
from app.images import ImageLimits, decode
from app.models.hosted import Preprocessing

HOW = Preprocessing(32, 32, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
LIMITS = ImageLimits(20_000_000, 1_000_000)
FORMS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "full colour": {"subsampling": 0, "quality": 95},
}


def jpeg(**options: Any) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def pixels(data: bytes) -> bytes:
    return decode(data, HOW, LIMITS).tobytes()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("missing", [1, 2])
def test_a_missing_end_marker_is_no_loss(form: str, missing: int) -> None:
    data = jpeg(**FORMS[form])
    assert data.endswith(b"\xff\xd9")
    assert pixels(data[:-missing]) == pixels(data)


@pytest.mark.parametrize("form", FORMS)
def test_other_truncations_are_refused(form: str) -> None:
    data = jpeg(**FORMS[form])
    taken = []
    for length in range(0, len(data) - 2, 7):
        try:
            pixels(data[:length])
        except ImageError:
            continue
        taken.append(length)
    assert taken == []


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (2 + len(body)).to_bytes(2) + body


@pytest.mark.parametrize(
    "beside",
    [
        pytest.param(segment(0xFE, b"x" * 60_000) * 100, id="many comments"),
        pytest.param(b"".join(segment(0xE0 + i, bytes(65_000)) for i in range(16)) * 3, id="all applications"),
        pytest.param(segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 3, id="empty EXIF"),
        pytest.param(segment(0xE2, b"ICC_PROFILE\0\x01\xff" + bytes(60_000)) * 20, id="a profile in parts"),
        pytest.param(segment(0xED, b"Photoshop 3.0\x008BIM" + b"\xff" * 60_000), id="Photoshop's"),
        pytest.param(segment(0xE2, b"MPF\0garbage"), id="a damaged list of pictures"),
        pytest.param(segment(0xFE, b"") * 20_000, id="empty comments"),
    ],
)
def test_data_beside_the_picture_are_no_reason_to_refuse(beside: bytes) -> None:
    data = jpeg()
    assert pixels(data[:2] + beside + data[2:]) == pixels(data)


def test_the_colours_and_the_orientation_that_segments_tell_are_kept() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    ink, turned = io.BytesIO(), jpeg(exif=exif, quality=95)
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(ink, "JPEG", quality=95)
    beside = segment(0xFE, b"a comment")
    for data in (ink.getvalue(), turned):
        assert pixels(data[:2] + beside + data[2:]) == pixels(data)
    assert pixels(turned) != pixels(jpeg(quality=95))
