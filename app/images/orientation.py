"""The orientation of a picture by EXIF or XMP, read without parsing the rest of them."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Any

from PIL import Image

ORIENTATION = 274
"""The tag of EXIF and TIFF."""

_XMP = re.compile(rb"tiff:Orientation(?:=[\"']|>)([0-9])")
_VALUES = {1: "B", 3: "H", 4: "I"}  # types of EXIF as `struct` writes them: byte, short, long
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn the image as a viewer shows it; unknown numbers leave it unchanged."""
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def orientation_of(info: Mapping[Any, Any]) -> int:
    """Return the orientation in an image's ``info``, 1 (upright) where it is absent or damaged."""
    exif = info.get("exif") or _from_raw_profile(info.get("Raw profile type exif", ""))
    xmp = info.get("XML:com.adobe.xmp") or info.get("xmp") or b""
    orientation = _from_exif(exif) if isinstance(exif, bytes) else None
    if orientation is None:
        match = _XMP.search(xmp if isinstance(xmp, bytes) else str(xmp).encode())
        orientation = int(match[1]) if match else 1
    return orientation


def _from_exif(exif: bytes) -> int | None:
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return None
    start = struct.unpack_from(f"{order}I", tiff, 4)[0]
    count = int.from_bytes(tiff[start : start + 2], "little" if order == "<" else "big")
    for at in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind = struct.unpack_from(f"{order}HH", tiff, at)
        if tag == ORIENTATION and kind in _VALUES:
            return int(struct.unpack_from(order + _VALUES[kind], tiff, at + 8)[0])
    return None


def _from_raw_profile(profile: object) -> bytes:
    """EXIF as ImageMagick writes it into a text: a name and a length, then hexadecimal digits in lines."""
    try:
        return bytes.fromhex("".join(str(profile).split("\n")[3:]))
    except ValueError:
        return b""
