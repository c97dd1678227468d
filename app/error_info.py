"""The content of an error response, made once from an exception and one table; each door renders it in its protocol."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import orjson

from adapters import CombinationError, ParameterError, UnknownStrategyError, UnsupportedModelError
from app import errors

LONGEST = 1000
"""Characters of a text: an error may quote its cause, but must not send a whole body back."""


def _clean(text: str) -> str:
    """Return ``text`` as valid UTF-8 (a client may have sent half a surrogate pair), shortened to `LONGEST`."""
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@dataclass(frozen=True)
class ErrorInfo:
    """An error as its client is to see it; ``status`` is HTTP's, and ``allow`` lists the methods that a path has.

    Each text is valid UTF-8 of at most `LONGEST` characters; ``location`` names a part of the client's request.
    """

    status: int
    code: str
    message: str = ""
    hint: str = ""
    location: str = ""
    retry_after: int | None = None  # seconds
    allow: str = ""

    def __post_init__(self) -> None:
        for name in ("message", "hint", "location"):
            object.__setattr__(self, name, _clean(getattr(self, name)))

    @property
    def text(self) -> str:
        """The message with its hint."""
        return _clean(f"{self.message}; {self.hint}" if self.hint else self.message)

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the response over HTTP, besides those of its body."""
        challenge = "Bearer" if self.status == 401 else ""
        headers = {"Allow": self.allow, "WWW-Authenticate": challenge, "Retry-After": str(self.retry_after or "")}
        return {name: value for name, value in headers.items() if value}

    def members(self) -> dict[str, str]:
        """Return the members of the error's JSON object."""
        members = {"error": self.text, "code": self.code}
        return {**members, "where": self.location} if self.location else members

    def to_json(self) -> bytes:
        """Return the error as a JSON object."""
        return orjson.dumps(self.members())


TABLE: dict[type[Exception], ErrorInfo] = {
    errors.ImageError: ErrorInfo(422, "unreadable_image"),
    errors.TooLargeError: ErrorInfo(413, "too_large"),
    errors.TooExpensiveError: ErrorInfo(422, "image_too_expensive"),
    errors.FieldError: ErrorInfo(422, "invalid_field"),
    errors.MediaTypeError: ErrorInfo(415, "unsupported_media_type"),
    errors.StreamNotFoundError: ErrorInfo(404, "stream_not_found"),
    errors.StrategyNotFoundError: ErrorInfo(404, "strategy_not_found"),
    errors.ModelNotFoundError: ErrorInfo(404, "model_not_found"),
    errors.UnsupportedError: ErrorInfo(501, "unsupported"),
    errors.MissingKeyError: ErrorInfo(401, "missing_key"),
    errors.AccessError: ErrorInfo(403, "forbidden"),
    errors.UnanswerableError: ErrorInfo(422, "not_finite"),
    errors.BusyError: ErrorInfo(503, "busy"),
    errors.StreamBusyError: ErrorInfo(429, "stream_busy", location="stream"),
    errors.DeadlineError: ErrorInfo(504, "deadline"),
    errors.EngineClosedError: ErrorInfo(503, "unavailable", retry_after=1),
    UnknownStrategyError: ErrorInfo(422, "unknown_strategy", location="strategy"),
    ParameterError: ErrorInfo(422, "invalid_parameter", location="params"),
    CombinationError: ErrorInfo(422, "invalid_strategy", location="strategy"),
    # Once a model is hosted, only a strategy can require what it lacks.
    UnsupportedModelError: ErrorInfo(422, "unsupported_strategy", location="strategy"),
}
"""What the errors of a type have in common; ``location`` is the default."""

INTERNAL = ErrorInfo(500, "internal", "internal error", "see the server's log")
"""Every error that is not in the table: nothing of it leaks."""


def describe_error(error: Exception) -> ErrorInfo:
    """Return the content of the response to an exception."""
    row = next((TABLE[kind] for kind in type(error).__mro__ if kind in TABLE), None)
    if row is None:
        return INTERNAL
    if not isinstance(error, errors.RenormError):
        return replace(row, message=str(error) or type(error).__name__)
    retry_after = max(1, math.ceil(error.retry_after_s)) if isinstance(error, errors.BusyError) else row.retry_after
    location = error.location or row.location
    return replace(row, message=error.message, hint=error.hint, location=location, retry_after=retry_after)
