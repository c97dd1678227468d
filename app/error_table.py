"""The table from exceptions to what they tell a client."""

from __future__ import annotations

import math
from dataclasses import replace

from adapters import CombinationError, ParameterError, UnknownStrategyError, UnsupportedModelError
from app import errors
from app.error_info import ErrorInfo

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
