"""The accepted image formats, recognized by their first bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from app.errors import ImageError
from app.images import jpeg, plain, png, tiff
from app.images.picture import Picture

ACCEPTED = "JPEG, PNG, WebP, BMP, TIFF or GIF"


class Format(NamedTuple):
    """A format's name, the first bytes of its files, and a function that opens one without reading its pixels."""

    name: str
    magic: re.Pattern[bytes]
    open: Callable[[bytes], Picture]


_FORMATS = (
    Format("JPEG", re.compile(rb"\xff\xd8\xff"), jpeg.open_picture),
    Format("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), png.open_picture),
    Format("WebP", re.compile(rb"RIFF.{4}WEBP", re.DOTALL), plain.open_webp),
    Format("GIF", re.compile(rb"GIF8[79]a"), plain.open_gif),
    Format("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]"), tiff.open_picture),
    Format("BMP", re.compile(rb"BM"), plain.open_bmp),
)

_LOOKALIKES = (
    ("an HEIC picture", re.compile(rb".{4}ftyp(hei|hev|mif1|msf1)", re.DOTALL)),
    ("an AVIF picture", re.compile(rb".{4}ftypavi", re.DOTALL)),
    ("a PDF document", re.compile(rb"%PDF")),
    ("an HTML page", re.compile(rb"\s*<(!doctype html|html|head|body)", re.IGNORECASE)),
    ("an SVG drawing", re.compile(rb".*<svg", re.DOTALL | re.IGNORECASE)),
    ("JSON, which as a body needs the header Content-Type: application/json", re.compile(rb"\s*[\[{]\s*[\"\d\[{\]}]")),
    ("a data URI, whose base64 part must be decoded first", re.compile(rb"data:image/")),
    ("base64 text, which must be decoded first", re.compile(rb"(/9j/|iVBORw0KGgo|UklGR|R0lGOD)")),
    ("a URL-encoded form: send its fields in the query, or a multipart form", re.compile(rb"\w+=[^=\s]")),
    ("text", re.compile(rb"[\t\r\n\x20-\x7e]+\Z")),
)


def recognize(data: bytes) -> Format:
    """Return the format of a file, by its first bytes.

    Raises:
        ImageError: not an accepted format; the message says what the bytes look like.
    """
    for kind in _FORMATS:
        if kind.magic.match(data):
            return kind
    head = data[:256]
    looks = next((f": they look like {name}" for name, pattern in _LOOKALIKES if pattern.match(head)), "")
    raise ImageError(
        f"the bytes are not an image of an accepted format{looks}",
        hint=f"send one still image as {ACCEPTED}",
    )
