"""The errors of the server, as one tree. They know no HTTP: the doors map types to statuses in one table.

RenormError
├── RequestError              the client can fix it
│   ├── ImageError            the image cannot be decoded: empty, truncated, animated, of an unknown format
│   ├── TooLargeError         more bytes, pixels or images than the server accepts
│   ├── TooExpensiveError     an image exceeds the time or memory limit of decoding
│   ├── FieldError            a field is missing, unknown, repeated, of the wrong type or out of range
│   ├── MediaTypeError        the media type of the body is not supported
│   ├── StreamNotFoundError   the stream has no state
│   ├── StrategyNotFoundError no strategy has that name
│   ├── ModelNotFoundError    no model of that name or version is hosted
│   └── UnsupportedError      a part of a protocol that is not supported
├── AccessError               the call is not allowed: a wrong key, or no key where one must be set
│   └── MissingKeyError       the call needs a key and has none
├── ModelError                a model cannot be hosted: unknown name, weights or labels that do not fit
├── MissingPackageError       the feature needs an extra that is not installed
├── UnanswerableError         the network's output for these images is not finite
├── BusyError                 too many requests wait
│   └── StreamBusyError       too many requests of one stream wait
├── DeadlineError             a request was not answered within its timeout
└── EngineClosedError         the engine does not answer: it is starting, closing, or its model thread has ended
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

IMAGES = "images"
"""The location of all images of a call, for which each door has its own name."""


class RenormError(Exception):
    """The root. ``message`` says what is wrong, ``hint`` how to fix it, ``location`` which part of a request it is.

    ``image`` is the index of the image that it is about, among those of the call.
    """

    def __init__(self, message: str, *, hint: str = "", location: str = "", image: int | None = None) -> None:
        super().__init__(message)
        self.message, self.hint, self.location, self.image = message, hint, location, image

    @property
    def line(self) -> str:
        """The message and the hint in one line, as commands and logs print them."""
        return f"{self.message}; {self.hint}" if self.hint else self.message


@contextmanager
def attribute_to_image(index: int) -> Iterator[None]:
    """Let request errors of the block be about the image at ``index``."""
    try:
        yield
    except RequestError as error:
        error.image = index
        raise


@contextmanager
def locate_images(place: str, first: int = 0) -> Iterator[None]:
    """Let request errors of the block name images by their position in the client's request, such as ``files[{}]``.

    ``first`` is the index there of the call's first image.
    """
    try:
        yield
    except RequestError as error:
        if error.image is not None:
            error.location = place.format(error.image + first)
        elif error.location == IMAGES:
            error.location = place.removesuffix("[{}]")
        raise


class RequestError(RenormError):
    """The request is wrong; the client can fix it."""


class ImageError(RequestError):
    """The image cannot be decoded."""


class TooLargeError(RequestError):
    """More bytes, pixels or images than the server accepts."""


class TooExpensiveError(RequestError):
    """An image exceeds the time or memory limit of decoding."""


class FieldError(RequestError):
    """A field is missing, unknown, repeated, of the wrong type or out of range."""


class MediaTypeError(RequestError):
    """The media type of the body is not supported."""


class StreamNotFoundError(RequestError):
    """The stream has no state."""


class StrategyNotFoundError(RequestError):
    """No strategy has that name."""


class ModelNotFoundError(RequestError):
    """No model of that name or version is hosted."""


class UnsupportedError(RequestError):
    """A part of a protocol that is not supported."""


class AccessError(RenormError):
    """The call is not allowed: a wrong key, or no key where one must be set."""


class MissingKeyError(AccessError):
    """The call needs a key and has none."""


class ModelError(RenormError):
    """A model cannot be hosted."""


class MissingPackageError(RenormError):
    """The feature needs an extra that is not installed."""


class UnanswerableError(RenormError):
    """The network's output for these images is not finite."""


class BusyError(RenormError):
    """Too many requests wait; a retry after about ``retry_after_s`` seconds should find room."""

    def __init__(self, message: str, *, hint: str = "", location: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(message, hint=hint, location=location)
        self.retry_after_s = retry_after_s


class StreamBusyError(BusyError):
    """Too many requests of one stream wait."""


class DeadlineError(RenormError):
    """A request was not answered within its timeout."""


class EngineClosedError(RenormError):
    """The engine does not answer."""


def unavailable_error(reason: str = "the engine is closed") -> EngineClosedError:
    """Return the error of a request that came, or was waiting, when the engine could not answer."""
    return EngineClosedError(reason, hint="wait until the server is ready again and repeat the request")
