"""The cost of decoding an image, estimated from its structure: images that are not cheap need their own process.

A thread cannot be ended, so it gets only files whose work is bounded: `CHEAP_PIXELS` at most, in a format whose work is
proportional to pixels and bytes. Everything else may take seconds within all limits: many scans of a progressive JPEG,
lossless WebP, whatever TIFF may hold.
"""

from __future__ import annotations

from collections.abc import Callable

from app.images import jpeg, png, tiff
from app.images.limits import ImageLimits

CHEAP_PIXELS = 4_000_000
"""Pixels that are decoded in a thread; about 0.1 s."""
TINY_PIXELS, TINY_BYTES = 64 * 64, 16_000
"""Pixels and bytes that are decoded at once; about 0.1 ms."""

_CHEAP_BYTES = 16_000_000
_CHEAP_PARTS = 300
_SCANNED_PIXELS = 16_000_000  # pixels x scans
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_SMALL_FILE = 64_000  # of formats whose work depends on how they are written


def is_cheap(data: bytes) -> bool:
    """Tell whether decoding takes little time if the image has at most `CHEAP_PIXELS`."""
    for magic, (check, _) in _FORMATS.items():
        if data.startswith(magic):
            return len(data) <= _CHEAP_BYTES and check(data)
    return True  # refused at once


def is_tiny(data: bytes) -> bool:
    """Tell whether decoding takes some 0.1 ms, most of it in Python: less than handing it to another thread."""
    return len(data) <= TINY_BYTES and 0 < _pixels(data) <= TINY_PIXELS and is_cheap(data)


def decode_bytes(data: bytes, limits: ImageLimits) -> int:
    """Return an upper bound of the bytes of memory that decoding takes at its peak, by the image's header.

    A pixel takes four bytes, twice while its form is changed; the coefficients of a JPEG that is not baseline, and the
    second half of 16-bit samples, come on top. The file itself is there twice. A header that cannot be read here counts
    as one of as many pixels as may be.
    """
    pixels = min(_pixels(data) or limits.pixels, limits.pixels)
    return _bytes_per_pixel(data) * pixels + 2 * len(data)


def _bytes_per_pixel(data: bytes) -> int:
    if data.startswith(png.MAGIC):
        return 20 if data[24:25] == b"\x10" else 8
    if data.startswith(b"\xff\xd8\xff"):
        return 8 if jpeg.is_baseline(data) else 12
    return 20 if data[:2] in (b"II", b"MM") and tiff.has_deep_colours(data) else 8


def _pixels(data: bytes) -> int:
    """Return the number of pixels by the header, 0 where it is unknown."""
    for magic, (_, count_pixels) in _FORMATS.items():
        if data.startswith(magic):
            return count_pixels(data)
    return 0


def _png_pixels(data: bytes) -> int:
    return int.from_bytes(data[16:20]) * int.from_bytes(data[20:24])


def _gif_pixels(data: bytes) -> int:
    return _little(data[6:8]) * _little(data[8:10])


def _bmp_pixels(data: bytes) -> int:
    return abs(_little(data[18:22]) * int.from_bytes(data[22:26], "little", signed=True))


def _webp_pixels(data: bytes) -> int:
    if data[12:16] == b"VP8 ":
        return (_little(data[26:28]) & 0x3FFF) * (_little(data[28:30]) & 0x3FFF)
    if data[12:16] == b"VP8L":
        sides = _little(data[21:25])
        return (1 + (sides & 0x3FFF)) * (1 + (sides >> 14 & 0x3FFF))
    return (1 + _little(data[24:27])) * (1 + _little(data[27:30]))


def _little(number: bytes) -> int:
    return int.from_bytes(number, "little")


def _is_cheap_jpeg(data: bytes) -> bool:
    frame, start, pixels = 0, 0, 0
    for number, (marker, at, _) in enumerate(jpeg.segments(data)):
        if number > _CHEAP_PARTS:
            return False
        if marker in jpeg.FRAMES:
            frame, pixels = marker, jpeg.pixels_at(data, at)
        start = at
    scans = data.count(b"\xff\xda", start)
    has_end = data.find(jpeg.END, start) >= 0  # else it may be decoded several times
    return frame in (_BASELINE, _EXTENDED, _PROGRESSIVE) and has_end and pixels * scans <= _SCANNED_PIXELS


def _is_cheap_png(data: bytes) -> bool:
    return all(number < _CHEAP_PARTS for number, _ in enumerate(png.chunks(data)))


def _is_cheap_webp(data: bytes) -> bool:
    """Tell whether it is lossy and still, or small."""
    return len(data) <= _SMALL_FILE or (data[12:16] == b"VP8 " and len(data) <= _CHEAP_BYTES)


def _is_cheap_bmp(data: bytes) -> bool:
    """Return whether it is uncompressed, which Pillow reads in C."""
    return int.from_bytes(data[14:18], "little") >= 40 and int.from_bytes(data[30:34], "little") in (0, 3)


def _is_small(data: bytes) -> bool:
    return len(data) <= _SMALL_FILE


def _never(data: bytes) -> bool:
    return not data


_FORMATS: dict[bytes, tuple[Callable[[bytes], bool], Callable[[bytes], int]]] = {
    b"\xff\xd8\xff": (_is_cheap_jpeg, jpeg.frame_pixels),
    png.MAGIC: (_is_cheap_png, _png_pixels),
    b"RIFF": (_is_cheap_webp, _webp_pixels),
    b"GIF8": (_is_small, _gif_pixels),
    b"BM": (_is_cheap_bmp, _bmp_pixels),
    b"II": (_never, tiff.page_pixels),  # TIFF: its library also prints warnings about a file
    b"MM": (_never, tiff.page_pixels),
}
"""By the first bytes of a format: whether a file of it is cheap, and the number of its pixels."""
