"""The cost of an image by its structure: ordinary files go to threads, and a header tells the memory."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.images import ImageLimits, decode_bytes, is_cheap, is_tiny

LIMITS = ImageLimits(20_000_000, 50_000_000)


def encoded(kind: str, side: int = 200, **options: Any) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind, **options)
    return buffer.getvalue()


PLAIN = encoded("JPEG")
FILES = {
    "baseline JPEG": (PLAIN, True),
    "progressive JPEG": (encoded("JPEG", progressive=True), True),
    "JPEG of very many scans": (PLAIN[:-2] + b"\xff\xda" * 1000 + PLAIN[-2:], False),
    "JPEG without an end": (PLAIN[:-2], False),
    "JPEG of very many segments": (PLAIN[:2] + b"\xff\xfe\0\x02" * 1000 + PLAIN[2:], False),
    "arithmetically coded JPEG": (PLAIN.replace(b"\xff\xc0", b"\xff\xc9", 1), False),
    "PNG": (encoded("PNG"), True),
    "PNG of very many chunks": (encoded("PNG")[:33] + b"\0\0\0\0tEXt\0\0\0\0" * 1000 + encoded("PNG")[33:], False),
    "lossy WebP": (encoded("WEBP"), True),
    "small lossless WebP": (encoded("WEBP", 20, lossless=True), True),
    "lossless WebP": (encoded("WEBP", lossless=True), False),
    "small GIF": (encoded("GIF"), True),
    "GIF": (encoded("GIF", 400), False),
    "BMP": (encoded("BMP"), True),
    "compressed BMP": (encoded("BMP")[:30] + b"\1\0\0\0" + encoded("BMP")[34:], False),
    "TIFF": (encoded("TIFF"), False),
    "anything else": (b"no image", True),
}


@pytest.mark.parametrize("name", FILES)
def test_cheap_images_are_decoded_in_a_thread(name: str) -> None:
    data, expected = FILES[name]
    assert is_cheap(data) == expected


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, {}) for kind in ("JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP")),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0"}),
        ("TIFF", {"big_tiff": True}),
        ("JPEG", {"progressive": True}),
    ],
)
def test_the_memory_of_an_image_follows_from_its_header(kind: str, options: dict[str, Any]) -> None:
    data = encoded(kind, **options)
    assert decode_bytes(data, LIMITS) == (12 if options.get("progressive") else 8) * 200 * 200 + 2 * len(data)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("container", ["PNG", "TIFF"])
def test_deep_colours_count_more(container: str, order: str) -> None:
    if container == "PNG":
        data = encoded("PNG")[:24] + b"\x10" + encoded("PNG")[25:]
    else:
        bits = struct.pack(f"{order}3H", 16, 16, 16)
        tags = [(256, 4, 1, 200), (257, 4, 1, 200), (258, 3, 3, 100)]
        entries = b"".join(struct.pack(f"{order}HHII", *tag) for tag in tags)
        head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
        data = (head + entries + bytes(4)).ljust(100, b"\0") + bits
    assert decode_bytes(data, LIMITS) == 20 * 200 * 200 + 2 * len(data)


@pytest.mark.parametrize("data", [b"", b"no image", b"II*\0garbage", b"\xff\xd8\xff\xff"])
def test_a_header_that_tells_nothing_counts_as_the_largest(data: bytes) -> None:
    assert decode_bytes(data, LIMITS) in [each * LIMITS.pixels + 2 * len(data) for each in (8, 12)]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF"])
def test_few_pixels_in_few_bytes_are_tiny(kind: str) -> None:
    assert is_tiny(encoded(kind, 32))
    assert not is_tiny(encoded(kind, 65))


@pytest.mark.parametrize(
    "file",
    [
        encoded("TIFF", 8),
        encoded("PNG", 8)[:33] + b"\0\0\0\0tEXt\0\0\0\0" * 1000 + encoded("PNG", 8)[33:],
        encoded("PNG", 8) + bytes(16_000),
        b"no image",
        b"",
    ],
    ids=["format of a process", "many chunks", "many bytes", "no image", "empty"],
)
def test_images_of_longer_decoding_are_not_tiny(file: bytes) -> None:
    assert not is_tiny(file)
