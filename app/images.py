"""Bytes to pixels under explicit limits: the header is read before any pixel. Knows no HTTP, keeps no state."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from app.errors import ImageError, RenormError, TooLargeError
from app.models.hosted import Preprocessing

ACCEPTED = "JPEG, PNG, WebP, BMP, TIFF or GIF"


class Limits(NamedTuple):
    """What one image may cost at most: its encoded ``bytes``, and the ``pixels`` that its header tells."""

    bytes: int
    pixels: int


class _Format(NamedTuple):
    name: str
    magic: re.Pattern[bytes]
    # The plugin's class itself, not `Image.open`: its bomb check has a global limit, and its JPEG reader turns into a
    # many-framed MPO reader for photos of phones, whose first picture is an ordinary JPEG.
    open: Callable[[BytesIO], ImageFile]


_FORMATS = (
    _Format("JPEG", re.compile(rb"\xff\xd8\xff"), JpegImageFile),
    _Format("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), PngImageFile),
    _Format("WebP", re.compile(rb"RIFF.{4}WEBP", re.DOTALL), WebPImageFile),
    _Format("GIF", re.compile(rb"GIF8[79]a"), GifImageFile),
    _Format("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImageFile),
    _Format("BMP", re.compile(rb"BM"), BmpImageFile),
)

_LOOKALIKES = (
    ("an HEIC picture", re.compile(rb".{4}ftyp(hei|hev|mif1|msf1)", re.DOTALL)),
    ("an AVIF picture", re.compile(rb".{4}ftypavi", re.DOTALL)),
    ("a PDF document", re.compile(rb"%PDF")),
    ("an HTML page", re.compile(rb"\s*<(!doctype html|html|head|body)", re.IGNORECASE)),
    ("an SVG drawing", re.compile(rb".*<svg", re.DOTALL | re.IGNORECASE)),
    ("JSON", re.compile(rb"\s*[\[{]\s*[\"\d\[{\]}]")),
    ("a data URI, whose base64 part has to be decoded first", re.compile(rb"data:image/")),
    ("base64 text, which has to be decoded first", re.compile(rb"(/9j/|iVBORw0KGgo|UklGR|R0lGOD)")),
    ("text", re.compile(rb"[\t\r\n\x20-\x7e]+\Z")),
)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(data: bytes, preprocessing: Preprocessing, limits: Limits, where: str) -> NDArray[np.uint8]:
    """Turn one encoded still image into the pixels that the network sees. Safe to call from many threads.

    Returns:
        ``[size, size, 3]``, RGB, read-only. Scaling and normalization follow on the model's device, where they cost
        less, for a whole batch: see `app.models.pixels`.

    Raises:
        ImageError: empty, of an unknown format, animated, truncated or corrupt.
        TooLargeError: more bytes, or by its header more pixels, than ``limits``.
    """
    _check_bytes(data, limits, where)
    kind = _recognize(data, where)
    try:
        with kind.open(BytesIO(data)) as image:
            _check_pixels(image, limits, where)
            _check_still(image, kind.name, where)
            image.load()
            rgb = _upright(_to_rgb(image, where), _orientation(image))
    except RenormError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels("too many", limits, where) from error
    except Exception as error:
        # Pillow's readers raise almost anything on damaged bytes: OSError, SyntaxError, ValueError, struct.error ...
        raise ImageError(
            f"the {kind.name} image is truncated or corrupt ({error})",
            hint="check that the whole file was sent, or save the image anew",
            where=where,
        ) from error
    return np.asarray(_cut(rgb, preprocessing))


def cut_pixels(
    pixels: NDArray[np.uint8], preprocessing: Preprocessing, limits: Limits, where: str
) -> NDArray[np.uint8]:
    """The part of an RGB image ``[H, W, 3]`` that the network sees, ``[size, size, 3]``, as `decode` cuts it.

    Raises:
        TooLargeError: more pixels than ``limits``.
    """
    height, width = pixels.shape[:2]
    if width * height > limits.pixels:
        raise _too_many_pixels(f"{width} x {height}", limits, where)
    return np.asarray(_cut(Image.fromarray(pixels), preprocessing))


def _check_bytes(data: bytes, limits: Limits, where: str) -> None:
    if not data:
        raise ImageError("the image is empty, it has 0 bytes", hint="send the bytes of an image file", where=where)
    if len(data) > limits.bytes:
        raise TooLargeError(
            f"the image has {len(data)} bytes, at most {limits.bytes} are accepted",
            hint="send it smaller or more compressed, or raise RENORM_MAX_IMAGE_BYTES",
            where=where,
        )


def _recognize(data: bytes, where: str) -> _Format:
    for kind in _FORMATS:
        if kind.magic.match(data):
            return kind
    head = data[:256]
    looks = next((f": they look like {name}" for name, pattern in _LOOKALIKES if pattern.match(head)), "")
    raise ImageError(
        f"the bytes are not an image of an accepted format{looks}",
        hint=f"send one still image as {ACCEPTED}",
        where=where,
    )


def _check_pixels(image: ImageFile, limits: Limits, where: str) -> None:
    if image.width * image.height > limits.pixels:
        raise _too_many_pixels(f"{image.width} x {image.height}", limits, where)


def _too_many_pixels(pixels: str, limits: Limits, where: str) -> TooLargeError:
    return TooLargeError(
        f"the image has {pixels} pixels, at most {limits.pixels} are accepted",
        hint="send it scaled down, or raise RENORM_MAX_IMAGE_PIXELS",
        where=where,
    )


def _check_still(image: ImageFile, name: str, where: str) -> None:
    if getattr(image, "is_animated", False):
        raise ImageError(
            f"the {name} image is animated or has several pages, and one still image was expected",
            hint="send its frames as single images, in order",
            where=where,
        )


def _to_rgb(image: Image.Image, where: str) -> Image.Image:
    if image.mode in ("I", "F"):
        raise ImageError(
            f"the image has 32-bit pixels (mode {image.mode}), whose range is unknown",
            hint="save it with 8 or 16 bits per channel",
            where=where,
        )
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255. The high byte is what it keeps of 16-bit colour, too.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    # What is transparent is dropped, not blended; for palettes Pillow would warn about that.
    image.info.pop("transparency", None)
    return image if image.mode == "RGB" else image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        # A damaged EXIF block is no reason to refuse an intact picture.
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _cut(image: Image.Image, how: Preprocessing) -> Image.Image:
    """Resize the short side to ``how.resize`` and cut out the centre, in one step.

    Only the centre is ever computed: a 1 x 1,000,000 image resized as a whole would need terabytes.
    """
    short = min(image.size)
    width, height = (how.resize * side // short for side in image.size)
    left, top = round((width - how.size) / 2), round((height - how.size) / 2)
    if short == how.resize:
        return image.crop((left, top, left + how.size, top + how.size))
    # The products may round to just beyond the image, which Pillow refuses.
    across, down = image.width / width, image.height / height
    right, bottom = min((left + how.size) * across, image.width), min((top + how.size) * down, image.height)
    box = (left * across, top * down, right, bottom)
    return image.resize((how.size, how.size), Image.Resampling[how.interpolation.upper()], box)
