"""Limits on one call of the engine."""

from __future__ import annotations

from app.errors import FieldError, TooLargeError


def check_count(images: int, limit: int) -> None:
    """Check the number of images in one request.

    Raises:
        FieldError: there are no images.
        TooLargeError: there are more than ``limit``.
    """
    if images == 0:
        raise FieldError("the request contains no images", hint="send at least one image", location="images")
    if images > limit:
        raise TooLargeError(
            f"{images} images in one request, at most {limit} are accepted",
            hint="send them in several requests, or raise RENORM_MAX_IMAGES",
            location="images",
        )
