"""What a call of the engine may ask for."""

from __future__ import annotations

from app.errors import FieldError, TooLargeError


def check_count(images: int, most: int) -> None:
    """Whether one request may hold so many images.

    Raises:
        FieldError: none.
        TooLargeError: more than ``most``.
    """
    if images == 0:
        raise FieldError("the request holds no image", hint="send at least one", location="images")
    if images > most:
        raise TooLargeError(
            f"{images} images in one request, at most {most} are accepted",
            hint="send them in several requests, or raise RENORM_MAX_IMAGES",
            location="images",
        )
