"""PNG: chunks beside the picture neither spoil it nor cost anything, and those that say how to show it are heard."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from app.errors import ImageError
from app.images import ImageLimits, decode
from app.images.png import LONGEST_TEXT, slim
from app.models.hosted import Preprocessing

HOW = Preprocessing(32, 32, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
LIMITS = ImageLimits(20_000_000, 1_000_000)
BIG = 1_500_000
NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def png(**options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, "PNG", **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def taken(data: bytes) -> bool:
    return bool(np.array_equal(decode(data, HOW, LIMITS), NOISE))


LARGE = {
    "tEXt": chunk(b"tEXt", b"k\0" + b"x" * BIG),
    "zTXt": chunk(b"zTXt", b"k\0\0" + zlib.compress(b"x" * BIG)),
    "iTXt, packed": chunk(b"iTXt", b"k\0\x01\0\0\0" + zlib.compress(b"x" * BIG)),
    "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"x" * BIG),
    "XMP, packed": chunk(b"iTXt", b"XML:com.adobe.xmp\0\x01\0\0\0" + zlib.compress(b"x" * BIG)),
    "iCCP": chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(BIG))),
    "eXIf": chunk(b"eXIf", b"II*\0\x08\0\0\0" + bytes(BIG)),
    "private": chunk(b"prVt", bytes(BIG)),
    "many of 1 MB": chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1_000_000))) * 80,
    "very many": chunk(b"tEXt", b"k\0x") * 20_000,
    "damaged text": chunk(b"zTXt", b"k\0\x07garbage") + chunk(b"iTXt", b"") + chunk(b"tEXt", b""),
    "damaged profile": chunk(b"iCCP", b"p\0\x07garbage"),
    "damaged sizes": chunk(b"pHYs", b"") + chunk(b"gAMA", b"") + chunk(b"cHRM", b"x") + chunk(b"sRGB", b""),
    "wrong checksum": chunk(b"tEXt", b"k\0x")[:-1] + b"!",
    "empty sBIT": chunk(b"sBIT", b""),
}


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", LARGE)
def test_data_beside_the_picture_are_no_reason_to_refuse(name: str, is_after: bool) -> None:
    plain = png()
    at = plain.rindex(b"IEND") - 4 if is_after else 33
    assert taken(plain[:at] + LARGE[name] + plain[at:])


def test_text_chunks_are_read_up_to_a_bound() -> None:
    packed = zlib.compress(bytes(50_000_000))
    plain = png()
    data = plain[:33] + chunk(b"iTXt", b"XML:com.adobe.xmp\0\x01\0\0\0" + packed) + plain[33:]
    assert len(slim(data).info["XML:com.adobe.xmp"]) == LONGEST_TEXT
    assert slim(data).file == plain


def test_a_plain_file_is_not_copied() -> None:
    data = png()
    assert slim(data).file is data


XMP = '<x:xmpmeta><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'


def _texts() -> dict[str, bytes]:
    exif = Image.Exif()
    exif[0x0112] = 3
    body = exif.tobytes()
    raw = f"\nexif\n{len(body):8}\n{body.hex()}\n"
    found: dict[str, bytes] = {}
    for name, packed in (("plain", False), ("packed", True)):
        xmp, profile = PngInfo(), PngInfo()
        xmp.add_itxt("XML:com.adobe.xmp", XMP, zip=packed)
        profile.add_text("Raw profile type exif", raw, zip=packed)
        found |= {f"XMP, {name}": png(pnginfo=xmp), f"raw profile, {name}": png(pnginfo=profile)}
    long = PngInfo()
    long.add_itxt("XML:com.adobe.xmp", XMP + "x" * BIG, zip=True)
    return found | {"long XMP": png(pnginfo=long), "eXIf": png(exif=exif)}


@pytest.mark.parametrize("name", _texts())
def test_orientation_is_read_from_every_source(name: str) -> None:
    assert np.array_equal(decode(_texts()[name], HOW, LIMITS), NOISE[::-1, ::-1])


def test_an_animation_of_one_frame_is_a_picture_and_one_of_two_is_none() -> None:
    plain = png()

    def animated(frames: int) -> bytes:
        return plain[:33] + chunk(b"acTL", struct.pack(">II", frames, 0)) + plain[33:]

    assert taken(animated(1))
    with pytest.raises(ImageError, match="animated"):
        decode(animated(2), HOW, LIMITS)
