"""JPEG: the segments that make the picture are kept, and an end marker that is missing is no loss."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from functools import partial
from io import BytesIO
from itertools import islice

from PIL import Image, ImageChops
from PIL.JpegImagePlugin import JpegImageFile

from app.images.picture import Picture, load_pixels

END = b"\xff\xd9"
"""The marker that ends a picture."""

FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""The markers of headers that have the size and kind of an image."""

_COMMENT, _START_OF_SCAN = 0xFE, 0xDA
_MAX_SEGMENTS = 1000  # that are looked at for the header
_FIRST_APPLICATION, _LAST_APPLICATION = 0xE0, 0xEF
_BARE = frozenset((1, *range(0xD0, 0xDA)))  # markers without a segment
_read_head = struct.Struct(">BBH").unpack_from
# What changes colours or tells which side is up; of each the first counts.
_DISPLAY_HEADERS = (b"JFIF\0", b"Adobe", b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0")
# Possible continuations of a file after its last byte: zero bits, as the end marker is read, and others.
_GUESSES = (b"", b"\xaa" * 64, b"\x55" * 64, b"\xe7\x18" * 32)


Segment = tuple[int, int, int]
"""A marker, and where its segment begins (at 0xff) and ends. A bare tuple, for every small image is walked along."""


def segments(data: bytes) -> Iterator[Segment]:
    """Walk along the segments up to the first scan, which is the last one; junk between them ends the walk."""
    start, last = 2, len(data) - 4
    while start <= last:
        prefix, marker, length = _read_head(data, start)
        if prefix != 0xFF:
            return
        if marker == 0xFF:  # padding
            start += 1
            continue
        end = start + 2 if marker in _BARE else start + 2 + length
        yield marker, start, end
        if marker == _START_OF_SCAN:
            return
        start = end


def frame(data: bytes) -> Segment | None:
    """The header that tells the picture's size and kind, None where it is not near the beginning."""
    return next((segment for segment in islice(segments(data), _MAX_SEGMENTS) if segment[0] in FRAMES), None)


def frame_pixels(data: bytes) -> int:
    """The pixels that the header tells, 0 where it has none."""
    head = frame(data)
    return 0 if head is None else pixels_at(data, head[1])


def pixels_at(data: bytes, start: int) -> int:
    """The pixels that the frame header at ``start`` tells."""
    return int.from_bytes(data[start + 5 : start + 7]) * int.from_bytes(data[start + 7 : start + 9])


def is_baseline(data: bytes) -> bool:
    """Tell whether rows of the picture can be decoded without keeping the coefficients of all."""
    head = frame(data)
    return head is not None and head[0] in (0xC0, 0xC1) and data.count(b"\xff\xda", head[1]) == 1


def slim(data: bytes) -> bytes:
    """Leave out the comments and the data of applications that do not say how to show the picture."""
    omitted, names = list[tuple[int, int]](), set[bytes]()
    for marker, start, end in segments(data):
        if marker < _FIRST_APPLICATION:
            continue
        name = next((name for name in _DISPLAY_HEADERS if data.startswith(name, start + 4)), None)
        if marker == _COMMENT or (marker <= _LAST_APPLICATION and (name is None or name in names)):
            omitted.append((start, end))
        elif name is not None:
            names.add(name)
    if not omitted:
        return data
    edges = zip([0, *(end for _, end in omitted)], [*(start for start, _ in omitted), len(data)], strict=True)
    return b"".join(data[begin:end] for begin, end in edges)


def open_picture(data: bytes) -> Picture:
    """A JPEG file; of a phone's many pictures in one file the first.

    The class itself is used, not `Image.open`, which turns such files into pictures of many frames.
    """
    file = slim(data)
    image = JpegImageFile(BytesIO(file))
    return Picture(image, is_still=True, load=partial(_load, image, file))


def _load(image: JpegImageFile, file: bytes) -> Image.Image:
    config, tile = image.decoderconfig, list(image.tile)
    try:
        return load_pixels(image)
    except OSError:
        if file.find(END, file.rfind(b"\xff\xda")) >= 0:
            raise
        # A zero makes a truncated 0xff data; otherwise the next bytes would be a marker.
        file += b"\0" if file.endswith(b"\xff") else b""
        guesses = (*_GUESSES, _next_restart_marker(file) + _GUESSES[1])
        continuations = (_load_continued(file + guess + END, image, config, tile) for guess in guesses)
        complete = next(continuations)
        # If only the end is missing, the image does not depend on the next bytes.
        if (
            complete is None
            or not _has_all_scans(file, image.layers)
            or any(map(partial(_differs, complete), continuations))
        ):
            raise
        return complete


def _differs(complete: Image.Image, guess: Image.Image | None) -> bool:
    return guess is None or ImageChops.difference(complete, guess).getbbox() is not None


def _load_continued(file: bytes, like: JpegImageFile, config: object, tile: Sequence[object]) -> Image.Image | None:
    image = JpegImageFile(BytesIO(file))
    image._size, image._mode = like.size, like.mode
    image.decoderconfig, image.tile = config, tile  # type: ignore[assignment]
    try:
        return load_pixels(image)
    except OSError:
        return None


def _next_restart_marker(file: bytes) -> bytes:
    """The restart marker that would come next."""
    last = max(file.rfind(bytes([0xFF, 0xD0 + i])) for i in range(8))
    return bytes([0xFF, 0xD0 if last < 0 else 0xD0 + (file[last + 1] + 1) % 8])


def _has_all_scans(file: bytes, components: int) -> bool:
    """Tell whether the scans give all 64 coefficients of all components to their last bit."""
    exact: dict[int, set[int]] = {}
    for scan in re.finditer(rb"\xff\xda..", file, re.DOTALL):
        ids, parameters = 1 + scan.end(), 1 + scan.end() + 2 * file[scan.end()]
        start, end, precision = file[parameters : parameters + 3]
        if precision & 15 == 0:
            for name in file[ids:parameters:2]:
                exact.setdefault(name, set()).update(range(start, end + 1))
    return len(exact) == components and all(len(coefficients) == 64 for coefficients in exact.values())
