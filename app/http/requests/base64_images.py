"""Decoding of images from text: base64, alone or in a data URI."""

from __future__ import annotations

import binascii
import reprlib
from typing import Any

from app.errors import FieldError, TooLargeError

_HINT = "send the file's bytes in standard base64, or as data:image/png;base64,..."


def decode_all(images: Any, max_images: int) -> list[bytes]:
    """Decode the member ``images`` of a JSON body.

    Raises:
        FieldError: it is not a list of one or more strings, or one of them is not base64.
        TooLargeError: there are more than ``max_images``.
    """
    if not isinstance(images, list) or not images:
        raise FieldError(
            f"images must be a list of one or more base64 strings, not {reprlib.repr(images)}",
            hint=_HINT,
            location="images",
        )
    check_count(len(images), max_images, "images")
    return [decode_one(text, f"images[{i}]") for i, text in enumerate(images)]


def decode_one(text: Any, location: str) -> bytes:
    """Decode one image; white space between characters is allowed.

    Raises:
        FieldError: it is not standard base64.
    """
    if not isinstance(text, str):
        raise FieldError(f"{location} must be a string, not {reprlib.repr(text)}", hint=_HINT, location=location)
    if text[:5].lower() == "data:":
        header, comma, text = text.partition(",")
        if not comma or not header.lower().endswith(";base64"):
            raise FieldError(f"{location} is a data URI without base64", hint=_HINT, location=location)
    text = "".join(text.split())
    if len(text) % 4 or text.endswith("==="):  # of these Python's decoder lets some pass
        raise FieldError(f"{location} is not valid base64: incorrect padding", hint=_HINT, location=location)
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise FieldError(f"{location} is not valid base64: {error}", hint=_HINT, location=location) from error


def check_count(images: int, max_images: int, location: str) -> None:
    """Refuse too many images before any of them is decoded.

    Raises:
        TooLargeError: there are more than ``max_images``.
    """
    if images > max_images:
        raise TooLargeError(
            f"too many images in one request, at most {max_images} are accepted",
            hint="send them in several requests, or raise RENORM_MAX_IMAGES",
            location=location,
        )
