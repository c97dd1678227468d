"""PNG: the chunks that make the picture are kept, all others never come near a reader.

Text, colour profiles and private chunks may be as many and as large as the file: Pillow would inflate them, and gives
up above limits of its own.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile

from app.images.picture import Picture, load_pixels
from app.images.samples import Depth, narrow_colour, narrow_gray

MAGIC = b"\x89PNG\r\n\x1a\n"

_PICTURE = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND"))
# The texts that may contain the orientation.
_DISPLAY_TEXTS = re.compile(rb"(XML:com\.adobe\.xmp|Raw profile type exif)\0")
_TEXTS = frozenset((b"tEXt", b"zTXt", b"iTXt"))
LONGEST_TEXT = 1 << 20
"""Bytes that are read of an inflated text."""


class Chunk(NamedTuple):
    """A chunk's type, and where it begins and ends in the file, its length and checksum included."""

    kind: bytes
    start: int
    end: int


def chunks(data: bytes) -> Iterator[Chunk]:
    """Walk along the chunks up to IEND, or as far as the file goes: the last one may be cut off."""
    start = len(MAGIC)
    while start + 8 <= len(data):
        kind, end = data[start + 4 : start + 8], start + 12 + int.from_bytes(data[start : start + 4])
        yield Chunk(kind, start, end)
        if kind == b"IEND":
            return
        start = end


class Slim(NamedTuple):
    """A PNG ``file`` without metadata chunks, and their contents; ``info`` as in Pillow's images."""

    file: bytes
    depth: Depth
    frames: int
    info: dict[str, bytes | str]


def slim(data: bytes) -> Slim:
    """Leave out all chunks except those of the (first) image, and read those on how to display it."""
    picture: list[Chunk] = []
    depth, frames, is_whole = Depth(), 1, True
    info: dict[str, bytes | str] = {}
    for chunk in chunks(data):
        if chunk.kind in _PICTURE:
            picture.append(chunk)
            continue
        is_whole = False
        if chunk.kind in _TEXTS:
            _read_text(data, chunk, info)
        elif chunk.kind == b"eXIf":
            info.setdefault("exif", _body(data, chunk))
        elif chunk.kind == b"acTL":
            frames = max(frames, int.from_bytes(_body(data, chunk)[:4]))
        elif chunk.kind == b"sBIT" and (bits := _body(data, chunk)[:4]):
            # Gray and alpha, or three colours and alpha: where colours differ, the deepest.
            depth = Depth(max(bits if len(bits) == 3 else bits[: 1 if len(bits) < 3 else 3]), is_scaled=True)
    file = data if is_whole else MAGIC + b"".join(data[chunk.start : chunk.end] for chunk in picture)
    return Slim(file, depth, frames, info)


def open_picture(data: bytes) -> Picture:
    """A PNG file; of one with a single frame of animation the still picture is taken."""
    file, depth, frames, info = slim(data)
    image = PngImageFile(BytesIO(file))
    image.info.update(info)
    return Picture(image, frames <= 1, partial(_load, image, file, depth))


def _body(data: bytes, chunk: Chunk) -> bytes:
    return data[chunk.start + 8 : chunk.end - 4]


def _read_text(data: bytes, chunk: Chunk, info: dict[str, bytes | str]) -> None:
    """Store the beginning of the first text of its name that may contain an orientation."""
    name = _DISPLAY_TEXTS.match(data, chunk.start + 8, chunk.end - 4)
    if name is None or (key := name[1].decode()) in info:
        return
    text = data[name.end() : chunk.end - 4]
    is_packed = chunk.kind == b"zTXt" or (chunk.kind == b"iTXt" and text[:1] == b"\1")
    if chunk.kind == b"iTXt":  # flag, method, language, keyword, text
        text = text[2:].split(b"\0", 2)[-1]
    elif is_packed:
        text = text[1:]
    if is_packed:
        try:
            text = zlib.decompressobj().decompress(text, LONGEST_TEXT)
        except zlib.error:
            return
    info[key] = text[:LONGEST_TEXT].decode("latin-1")


def _load(image: PngImageFile, file: bytes, depth: Depth) -> Image.Image:
    raw = str(image.tile[0].args) if image.tile else ""
    high = load_pixels(image)
    if high.mode == "I;16":
        return narrow_gray(np.asarray(high), depth)
    return narrow_colour(high, partial(_low_bytes, file, raw), depth) if raw.endswith(";16B") else high


def _low_bytes(file: bytes, raw: str) -> Image.Image:
    """The lower bytes of a picture's 16-bit samples, read as if the file had the other order of bytes."""
    image = PngImageFile(BytesIO(file))
    if raw != "LA;16B":
        return load_pixels(_reread(image, raw[:-1] + "L"))
    # Both bytes of gray and both of alpha, as four channels.
    low = load_pixels(_reread(image, "RGBA")).getchannel(1)
    return Image.merge("RGB", (low, low, low))


def _reread(image: ImageFile, raw: str) -> ImageFile:
    image.tile = [tile._replace(args=raw) for tile in image.tile]
    return image
