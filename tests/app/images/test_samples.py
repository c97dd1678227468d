"""Every depth x photometric x container x scale, against a reader of a few lines."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.images import ImageLimits, decode
from app.models.hosted import Preprocessing

SIDE = 16
LIMITS = ImageLimits(1_000_000, 1_000_000)
HOW = Preprocessing(SIDE, SIDE, "nearest", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
COMPRESSIONS = {"raw": "raw", "lzw": "tiff_lzw", "deflate": "tiff_adobe_deflate", "packbits": "packbits"}

Numbers = NDArray[np.int64]


def numbers(bits: int, channels: int = 1) -> Numbers:
    """All levels from black to white, in no order, both ends among them."""
    levels = np.linspace(0, (1 << bits) - 1, SIDE * SIDE * channels).round().astype(np.int64)
    mixed = np.random.default_rng(bits).permutation(levels)
    return mixed.reshape(SIDE, SIDE, channels)


def packed(samples: Numbers, bits: int, order: str) -> bytes:
    """Rows ``[H, W, C]`` as a file holds them: less than a byte per sample from the highest bit on."""
    rows = samples.reshape(len(samples), -1)
    if bits == 16:
        return rows.astype(f"{order}u2").tobytes()
    ones = (rows[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(ones.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()


def tiff(
    samples: Numbers,
    bits: int,
    photometric: int,
    order: str = "<",
    more: tuple[tuple[int, Any], ...] = (),
    *,
    is_deflated: bool = False,
) -> bytes:
    channels = samples.shape[2]
    data = packed(samples, bits, order)
    data = zlib.compress(data) if is_deflated else data
    tags: dict[int, tuple[str, tuple[int, ...]]] = {
        256: ("H", (samples.shape[1],)),
        257: ("H", (samples.shape[0],)),
        258: ("H", (bits,) * channels),
        259: ("H", (8 if is_deflated else 1,)),
        262: ("H", (photometric,)),
        273: ("I", (8,)),
        277: ("H", (channels,)),
        278: ("H", (samples.shape[0],)),
        279: ("I", (len(data),)),
        **{tag: ("H", value) for tag, value in more},
    }
    start = 8 + len(data)
    after, entries, extra = start + 2 + 12 * len(tags) + 4, b"", b""
    for tag, (form, values) in sorted(tags.items()):
        body = struct.pack(f"{order}{len(values)}{form}", *values)
        if len(body) > 4:
            extra, body = extra + body, struct.pack(f"{order}I", after + len(extra))
        entries += struct.pack(f"{order}HHI", tag, 3 if form == "H" else 4, len(values)) + body.ljust(4, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    count = struct.pack(f"{order}H", len(tags))
    return mark + struct.pack(f"{order}I", start) + data + count + entries + bytes(4) + extra


def png(samples: Numbers, bits: int, kind: int, more: dict[bytes, bytes] | None = None) -> bytes:
    rows = packed(samples, bits, ">")
    step = len(rows) // len(samples)
    lines = b"".join(b"\0" + rows[i : i + step] for i in range(0, len(rows), step))
    head = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], bits, kind, 0, 0, 0)
    parts = {b"IHDR": head, **(more or {}), b"IDAT": zlib.compress(lines), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts.items()
    )


def shown(samples: Numbers, bits: int, *, white_is_zero: bool = False) -> Numbers:
    """The reader to agree with: what of 0 to 255 each sample means, gray as three equal channels."""
    levels = samples * 255 / ((1 << bits) - 1)
    whole: Numbers = (255 - levels if white_is_zero else levels).round().astype(np.int64)
    return np.repeat(whole, 3, 2) if whole.shape[2] == 1 else whole[..., :3]


def check(data: bytes, expected: Numbers) -> None:
    found = decode(data, HOW, LIMITS).astype(np.int64)
    # One level of rounding, where the high byte is kept instead.
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("photometric", [0, 1], ids=["white is zero", "black is zero"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_gray_tiff(bits: int, photometric: int, order: str) -> None:
    samples = numbers(bits)
    check(tiff(samples, bits, photometric, order), shown(samples, bits, white_is_zero=not photometric))


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("photometric", [0, 1], ids=["white is zero", "black is zero"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("extra", [0, 1, 2], ids=["unspecified", "premultiplied", "alpha"])
def test_gray_tiff_with_a_second_channel(extra: int, bits: int, photometric: int, order: str) -> None:
    samples = numbers(bits, 2)
    if extra == 1:
        samples[..., 1] = (1 << bits) - 1  # what premultiplying does to an opaque picture is nothing
    data = tiff(samples, bits, photometric, order, ((338, (extra,)),))
    check(data, shown(samples[..., :1], bits, white_is_zero=not photometric))


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_compressed_gray_tiff(white_is_zero: bool, bits: int, compression: str) -> None:
    samples = numbers(bits)
    image = Image.fromarray(samples[..., 0].astype(np.uint16))
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", compression=COMPRESSIONS[compression], tiffinfo={262: 0 if white_is_zero else 1})
    data = buffer.getvalue()
    # Pillow writes its own photometric interpretation, so the tag is set in the file.
    at = data.index(struct.pack("<HHI", 262, 3, 1)) + 8
    data = data[:at] + struct.pack("<H", 0 if white_is_zero else 1) + data[at + 2 :]
    check(data, shown(samples, bits, white_is_zero=white_is_zero))


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_deflated_tiff(channels: int, bits: int, order: str) -> None:
    samples = numbers(bits, channels)
    data = tiff(samples, 16, 2 if channels == 3 else 1, order, is_deflated=True)
    check(data, shown(samples[..., :1] if channels == 2 else samples, bits))


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_colour_tiff(bits: int, channels: int, order: str) -> None:
    samples = numbers(bits, channels)
    check(tiff(samples, bits, 2, order, ((338, (2,)),) * (channels == 4)), shown(samples, bits))


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bits", [12])
def test_twelve_bits_in_sixteen(bits: int, channels: int, order: str) -> None:
    samples = numbers(bits, channels)
    photometric = 1 if channels == 1 else 2
    check(tiff(samples, 16, photometric, order, ((338, (2,)),) * (channels == 4)), shown(samples, bits))


@pytest.mark.parametrize("tag", [281, 341])
@pytest.mark.parametrize("photometric", [0, 1], ids=["white is zero", "black is zero"])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_the_largest_sample_that_a_tiff_tells(bits: int, photometric: int, tag: int) -> None:
    samples = numbers(bits)
    data = tiff(samples, 16, photometric, "<", ((tag, ((1 << bits) - 1,)),))
    check(data, shown(samples, bits, white_is_zero=not photometric))


def test_a_largest_sample_that_is_untrue_is_not_believed() -> None:
    samples = numbers(16)
    check(tiff(samples, 16, 1, "<", ((341, (4095,)),)), shown(samples, 16))


@pytest.mark.parametrize(
    ("bits", "kind"),
    [*((bits, 0) for bits in (1, 2, 4)), *((bits, kind) for bits in (8, 12, 16) for kind in (0, 2, 4, 6))],
)
def test_png(bits: int, kind: int) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    samples = numbers(bits, channels)
    picture = samples[..., :1] if channels == 2 else samples
    check(png(samples, max(bits, 16) if bits == 12 else bits, kind), shown(picture, bits))


@pytest.mark.parametrize("kind", [0, 2, 4, 6], ids=["gray", "colour", "gray and alpha", "colour and alpha"])
@pytest.mark.parametrize("is_scaled", [False, True], ids=["as they are", "scaled to 16"])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_the_significant_bits_of_a_png(bits: int, is_scaled: bool, kind: int) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    samples = numbers(bits, channels)
    stored = (samples << (16 - bits)) | (samples >> (2 * bits - 16)) if is_scaled else samples
    data = png(stored, 16, kind, {b"sBIT": bytes([bits] * channels)})
    check(data, shown(samples[..., :1] if channels == 2 else samples, bits))


def test_a_dark_picture_that_was_scaled_as_png_demands_stays_dark() -> None:
    samples = numbers(8)  # of 12 bits: the darkest sixteenth
    check(png(samples << 4, 16, 0, {b"sBIT": b"\x0c"}), shown(samples, 12))
