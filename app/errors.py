"""What can go wrong in the server, as one tree. None of it knows HTTP: the doors map types to statuses in one table.

RenormError
├── RequestError              the client can mend it
│   ├── ImageError            not an image we can read: empty, truncated, animated, of an unknown format
│   ├── TooLargeError         more bytes, pixels or images than the server accepts
│   ├── TooExpensiveError     an image that takes more time or memory to decode than one may
│   ├── FieldError            a field is missing, unknown, given twice, of the wrong type or out of range
│   ├── MediaTypeError        a body of a type that no parser takes
│   ├── StreamNotFoundError   no state is held for that stream
│   ├── StrategyNotFoundError no strategy of that name can be shown
│   ├── ModelNotFoundError    no model of that name or version is hosted
│   └── UnsupportedError      a part of a protocol that this server does not have
├── AccessError               the call is not allowed: a wrong key, or no key where one must be set
│   └── MissingKeyError       the call needs a key and has none
├── ModelError                a model cannot be hosted: unknown name, weights or labels that do not fit
├── MissingPackageError       what was asked for needs an extra that is not installed
├── UnanswerableError         the network's output for these images is not finite
├── BusyError                 too many requests wait
│   └── StreamBusyError       too many requests of one stream wait
├── DeadlineError             a request was not answered in the time that it had
└── EngineClosedError         the engine does not answer: it is starting, closing, or its model thread is gone
"""

from __future__ import annotations


class RenormError(Exception):
    """The root. ``message`` says what was wrong, ``hint`` how to mend it, ``where`` which part of a request it was."""

    def __init__(self, message: str, *, hint: str = "", location: str = "") -> None:
        super().__init__(message)
        self.message, self.hint, self.location = message, hint, location


class RequestError(RenormError):
    """The client can mend it."""


class ImageError(RequestError):
    """Not an image we can read."""


class TooLargeError(RequestError):
    """More bytes, pixels or images than the server accepts."""


class TooExpensiveError(RequestError):
    """An image takes more time or memory to decode than one may."""


class FieldError(RequestError):
    """A field is missing, unknown, given twice, of the wrong type or out of range."""


class MediaTypeError(RequestError):
    """A body of a type that no parser takes."""


class StreamNotFoundError(RequestError):
    """No state is held for that stream."""


class StrategyNotFoundError(RequestError):
    """No strategy of that name can be shown."""


class ModelNotFoundError(RequestError):
    """No model of that name or version is hosted."""


class UnsupportedError(RequestError):
    """A part of a protocol that this server does not have."""


class AccessError(RenormError):
    """The call is not allowed: a wrong key, or no key where one must be set."""


class MissingKeyError(AccessError):
    """The call needs a key and has none."""


class ModelError(RenormError):
    """A model cannot be hosted."""


class MissingPackageError(RenormError):
    """What was asked for needs an extra that is not installed."""


class UnanswerableError(RenormError):
    """The network's output for these images is not finite."""


class BusyError(RenormError):
    """Too many requests wait; about ``retry_after_s`` seconds later there should be room again."""

    def __init__(self, message: str, *, hint: str = "", location: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(message, hint=hint, location=location)
        self.retry_after_s = retry_after_s


class StreamBusyError(BusyError):
    """Too many requests of one stream wait."""


class DeadlineError(RenormError):
    """A request was not answered in the time that it had."""


class EngineClosedError(RenormError):
    """The engine does not answer."""
