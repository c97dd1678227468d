"""JPEG: the segments that make the picture are kept, and an end marker that is missing is no loss."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from io import BytesIO
from itertools import islice
from typing import NamedTuple

from PIL import Image, ImageChops
from PIL.JpegImagePlugin import JpegImageFile

from app.images.picture import Picture, loaded

END = b"\xff\xd9"
"""The marker that ends a picture."""

FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""The markers of headers that tell a picture's size and kind."""

_COMMENT, _START_OF_SCAN = 0xFE, 0xDA
_MOST_SEGMENTS = 1000  # that are looked at for the header
_APPLICATION = range(0xE0, 0xF0)
# What changes colours or tells which side is up; of each the first counts.
_TELLING = (b"JFIF\0", b"Adobe", b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0")
# Ways in which a file may go on after its last byte: zero bits, which is what the end marker is taken for, and others.
_GUESSES = (b"", b"\xaa" * 64, b"\x55" * 64, b"\xe7\x18" * 32)


class Segment(NamedTuple):
    """A marker, and where its segment begins (at 0xff) and ends."""

    marker: int
    start: int
    end: int


def segments(data: bytes) -> Iterator[Segment]:
    """Walk along the segments up to the first scan, which is the last one; junk between them ends the walk."""
    start, size = 2, len(data)
    while start + 4 <= size and data[start] == 0xFF:
        marker = data[start + 1]
        if marker == 0xFF:  # padding
            start += 1
            continue
        end = start + 2 + (0 if marker == 1 or 0xD0 <= marker <= 0xD9 else int.from_bytes(data[start + 2 : start + 4]))
        yield Segment(marker, start, end)
        if marker == _START_OF_SCAN:
            return
        start = end


def frame(data: bytes) -> Segment | None:
    """The header that tells the picture's size and kind, None where it is not near the beginning."""
    return next((part for part in islice(segments(data), _MOST_SEGMENTS) if part.marker in FRAMES), None)


def frame_pixels(data: bytes) -> int:
    """The pixels that the header tells, 0 where it has none."""
    head = frame(data)
    if head is None:
        return 0
    height, width = (data[head.start + at : head.start + at + 2] for at in (5, 7))
    return int.from_bytes(height) * int.from_bytes(width)


def is_baseline(data: bytes) -> bool:
    """Tell whether rows of the picture can be decoded without keeping the coefficients of all."""
    head = frame(data)
    return head is not None and head.marker in (0xC0, 0xC1) and data.count(b"\xff\xda", head.start) == 1


def slim(data: bytes) -> bytes:
    """Leave out the comments and the data of applications that do not say how to show the picture."""
    parts, names, last, is_whole = [data[:2]], set[bytes](), 2, True
    for marker, start, end in segments(data):
        last = start
        if marker == _START_OF_SCAN:
            break
        head = data[start + 4 : start + 36]
        name = next((name for name in _TELLING if head.startswith(name)), None)
        if marker == _COMMENT or (marker in _APPLICATION and (name is None or name in names)):
            is_whole = False
        else:
            names.add(name or b"")
            parts.append(data[start:end])
        last = end
    return data if is_whole else b"".join((*parts, data[last:]))


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
        return loaded(image)
    except OSError:
        if file.find(END, file.rfind(b"\xff\xda")) >= 0:
            raise
        # A cut-off 0xff becomes data by a zero, or else whatever follows would be a marker.
        file += b"\0" if file.endswith(b"\xff") else b""
        guesses = (*_GUESSES, _restart(file) + _GUESSES[1])
        continuations = (_continued(file + guess + END, image, config, tile) for guess in guesses)
        complete = next(continuations)
        # If nothing but the end is missing, the picture does not depend on what comes next.
        if (
            complete is None
            or not _has_all_scans(file, image.layers)
            or any(map(partial(_differs, complete), continuations))
        ):
            raise
        return complete


def _differs(complete: Image.Image, guess: Image.Image | None) -> bool:
    return guess is None or ImageChops.difference(complete, guess).getbbox() is not None


def _continued(file: bytes, like: JpegImageFile, config: object, tile: Sequence[object]) -> Image.Image | None:
    image = JpegImageFile(BytesIO(file))
    image._size, image._mode = like.size, like.mode
    image.decoderconfig, image.tile = config, tile  # type: ignore[assignment]
    try:
        return loaded(image)
    except OSError:
        return None


def _restart(file: bytes) -> bytes:
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
