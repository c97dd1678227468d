"""What headers say of a prediction: its stream, where proxies route by it, and the key under which it is one step."""

from __future__ import annotations

import re
import reprlib
from typing import Any

from starlette.datastructures import Headers

from app.errors import FieldError
from app.http.requests.fields import STREAM, check_stream

KEY = "Idempotency-Key"
STREAM_NAMES = ("X-Stream-Id", "X-Session-Id")
"""The first that is there counts."""

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
        "description": "requests of a stream with one key take one step and get one answer, so trying again is safe",
    },
    STREAM_NAMES[0]: {**_STREAM, "description": "the stream, where neither the query nor the body names one"},
    STREAM_NAMES[1]: {**_STREAM, "description": f"the same as {STREAM_NAMES[0]}, as other servers call it"},
}
"""JSON schemas of the headers that `POST /v1/predict` reads, by name."""


def request_id(headers: Headers) -> str | None:
    """The idempotency key; None without one.

    Raises:
        FieldError: it is empty, too long or not ASCII, or given twice.
    """
    key = _one(headers, KEY)
    if key is not None and re.fullmatch(rf"[ -~]{{1,{LONGEST_KEY}}}", key) is None:
        raise FieldError(
            f"{KEY} must be 1 to {LONGEST_KEY} printable ASCII characters, not {reprlib.repr(key)}",
            hint="make a new one, such as a UUID, for each request, and send it again with each try",
            location=KEY,
        )
    return key


def stream_of(headers: Headers) -> str | None:
    """The stream that a header names; None without one.

    Raises:
        FieldError: it is no name of a stream, or given twice.
    """
    # All of them are looked at, so that a wrong one is told of even where another counts.
    found = [_stream(headers, name) for name in STREAM_NAMES]
    return next((stream for stream in found if stream is not None), None)


def _stream(headers: Headers, name: str) -> str | None:
    given = _one(headers, name)
    if given is None:
        return None
    try:
        # ASGI hands headers over as latin-1, whatever the client meant; names of streams are UTF-8.
        stream = given.encode("latin-1").decode()
        check_stream(stream)
    except UnicodeDecodeError as error:
        raise FieldError(f"{name} is not UTF-8", hint="send the bytes of its name in UTF-8", location=name) from error
    except FieldError as error:
        error.location = name
        raise
    return stream


def _one(headers: Headers, name: str) -> str | None:
    given = headers.getlist(name)
    if len(set(given)) > 1:
        raise FieldError(f"the header {name} is given twice", hint="give it once", location=name)
    return given[0] if given else None
