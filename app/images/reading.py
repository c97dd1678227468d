"""Decode bytes to pixels under explicit limits; the header is read before any pixel. No HTTP, no state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.errors import ImageError, RenormError
from app.images.cutting import network_pixels
from app.images.formats import Format, recognize
from app.images.limits import ImageLimits, check_bytes, check_pixels, too_many_pixels
from app.images.orientation import orientation_of, upright
from app.images.picture import Picture
from app.images.preprocessing import Preprocessing


def decode(data: bytes, preprocessing: Preprocessing, limits: ImageLimits) -> NDArray[np.uint8]:
    """Turn one encoded still image into the pixels that the network sees. Safe to call from many threads.

    Returns:
        ``[height, width, channels]``, RGB or grey, read-only. Scaling and normalization follow on the model's device,
        where they cost less, for a whole batch: see `app.models.pixels`.

    Raises:
        ImageError: empty, of an unknown format, animated, truncated or corrupt.
        TooLargeError: more bytes, or by its header more pixels, than ``limits``.
    """
    with _image_errors(data, limits) as kind:
        rgb = _upright_rgb(_open(kind, data, limits))
    return network_pixels(rgb, preprocessing)


def check_header(data: bytes, limits: ImageLimits) -> None:
    """Check an image by its header alone.

    Raises:
        ImageError, TooLargeError: as `decode` does for what a header can tell.
    """
    with _image_errors(data, limits) as kind:
        _open(kind, data, limits)


@contextmanager
def _image_errors(data: bytes, limits: ImageLimits) -> Iterator[Format]:
    """Yield the format of the data; any error while it is read becomes one of ours."""
    check_bytes(data, limits)
    kind = recognize(data)
    try:
        yield kind
    except (RenormError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_many_pixels("too many", limits) from error
    except Exception as error:
        # Pillow's readers raise almost anything on damaged bytes: OSError, SyntaxError, ValueError, struct.error ...
        raise ImageError(
            f"the {kind.name} image is truncated or corrupt ({error})",
            hint="check that the whole file was sent, or save the image again",
        ) from error


def _open(kind: Format, data: bytes, limits: ImageLimits) -> Picture:
    picture = kind.open(data)
    check_pixels(picture.image.width, picture.image.height, limits)
    _check_still(kind.name, is_still=picture.is_still)
    return picture


def _upright_rgb(picture: Picture) -> Image.Image:
    pixels = picture.load()
    info = picture.image.info
    # Nothing may hold the pixels in an earlier form while the next one is made: each takes four bytes per pixel.
    del picture
    rgb = _to_rgb(pixels)
    del pixels
    return upright(rgb, orientation_of(info))


def _check_still(name: str, *, is_still: bool) -> None:
    if not is_still:
        raise ImageError(
            f"the {name} image is animated or has several pages; expected one still image",
            hint="send its frames as separate images, in order",
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F"):
        raise ImageError(
            f"the image has 32-bit or signed pixels (mode {image.mode}), which are not supported",
            hint="save it with 8 or 16 bits per channel",
        )
    # What is transparent is dropped, not blended; for palettes Pillow would warn about that.
    image.info.pop("transparency", None)
    return image if image.mode == "RGB" else image.convert("RGB")
