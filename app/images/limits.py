"""The limits of one image, and the errors beyond them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from app.errors import ImageError, TooLargeError

if TYPE_CHECKING:
    from app.settings import Settings


class ImageLimits(NamedTuple):
    """The largest accepted number of encoded ``bytes`` of one image, and of ``pixels`` by its header."""

    bytes: int
    pixels: int

    @classmethod
    def of(cls, settings: Settings) -> ImageLimits:
        """Return the limits of a server."""
        return cls(settings.max_image_bytes, settings.max_image_pixels)


def check_bytes(data: bytes, limits: ImageLimits) -> None:
    """Refuse an empty file and one with too many bytes.

    Raises:
        ImageError: it is empty.
        TooLargeError: it has more bytes than ``limits``.
    """
    if not data:
        raise ImageError("the image is empty (0 bytes)", hint="send the bytes of an image file")
    if len(data) > limits.bytes:
        raise TooLargeError(
            f"the image has {len(data)} bytes, at most {limits.bytes} are accepted",
            hint="resize or compress it more, or raise RENORM_MAX_IMAGE_BYTES",
        )


def check_pixels(width: int, height: int, limits: ImageLimits) -> None:
    """Refuse an image of too many pixels.

    Raises:
        TooLargeError: it has more pixels than ``limits``.
    """
    if width * height > limits.pixels:
        raise too_many_pixels(f"{width} x {height}", limits)


def too_many_pixels(pixels: str, limits: ImageLimits) -> TooLargeError:
    """Return the error for an image of ``pixels``, a text such as "64 x 64"."""
    return TooLargeError(
        f"the image has {pixels} pixels, at most {limits.pixels} are accepted",
        hint="scale it down, or raise RENORM_MAX_IMAGE_PIXELS",
    )
