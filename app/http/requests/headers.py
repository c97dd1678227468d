"""Headers of a prediction: the stream, by which proxies can route, and the idempotency key."""

from __future__ import annotations

import re
import reprlib
from typing import Any

from starlette.datastructures import Headers

from app.errors import FieldError
from app.http.requests.fields import STREAM, check_stream

KEY = "Idempotency-Key"
STREAM_NAMES = ("X-Stream-Id", "X-Session-Id")
"""The first that is sent counts."""

LONGEST_KEY = 128
"""Characters of an idempotency key."""

# ASCII is what every client can put into a header; names in UTF-8 are read as well.
_ASCII_NAME = "^(?!\\.{1,2}$)[!-.0-~]([ -.0-~]*[!-.0-~])?$"
_STREAM = {**{name: value for name, value in STREAM.schema.items() if name != "default"}, "pattern": _ASCII_NAME}

HEADERS: dict[str, dict[str, Any]] = {
    KEY: {
        "type": "string",
        "minLength": 1,
        "maxLength": LONGEST_KEY,
        "pattern": "^[!-~]([ -~]*[!-~])?$",
        "description": "requests of a stream with the same key take one step and get one response, so retries are safe",
    },
    STREAM_NAMES[0]: {**_STREAM, "description": "name of the stream, where neither the query nor the body names one"},
    STREAM_NAMES[1]: {**_STREAM, "description": f"alias of {STREAM_NAMES[0]}, for clients of other servers"},
}
"""JSON schemas of the headers that `POST /v1/predict` reads, by name."""


def request_id(headers: Headers) -> str | None:
    """Return the idempotency key; None without one.

    Raises:
        FieldError: it is empty, too long or not ASCII, or appears twice.
    """
    key = _single_value(headers, KEY)
    if key is not None and re.fullmatch(rf"[ -~]{{1,{LONGEST_KEY}}}", key) is None:
        raise FieldError(
            f"{KEY} must be 1 to {LONGEST_KEY} printable ASCII characters, not {reprlib.repr(key)}",
            hint="use a new key, such as a UUID, for each request, and the same key for its retries",
            location=KEY,
        )
    return key


def stream_of(headers: Headers) -> str | None:
    """Return the stream that a header names; None without one.

    Raises:
        FieldError: it is not a valid name of a stream, or appears twice.
    """
    # All of them are checked, so that a wrong one is refused even where another counts.
    streams = [_stream(headers, name) for name in STREAM_NAMES]
    return next((stream for stream in streams if stream is not None), None)


def _stream(headers: Headers, name: str) -> str | None:
    value = _single_value(headers, name)
    if value is None:
        return None
    try:
        # ASGI hands headers over as latin-1, whatever the client meant; names of streams are UTF-8.
        stream = value.encode("latin-1").decode()
        check_stream(stream)
    except UnicodeDecodeError as error:
        raise FieldError(f"{name} is not UTF-8", hint="encode the name in UTF-8", location=name) from error
    except FieldError as error:
        error.location = name
        raise
    return stream


def _single_value(headers: Headers, name: str) -> str | None:
    values = headers.getlist(name)
    if len(set(values)) > 1:
        raise FieldError(f"the header {name} appears twice", hint="send it once", location=name)
    return values[0] if values else None
