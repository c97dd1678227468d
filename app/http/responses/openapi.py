"""What OpenAPI says of errors, and of the bodies that doors read themselves: with examples that work as they stand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import responses as phrases
from typing import Any

from app.http.requests.fields import PREDICT, RESET, Known
from app.http.requests.headers import HEADERS
from app.http.responses.errors import wire
from app.schemas import ErrorResponse

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAHElEQVR42mOMWnCHARtgYsABqCjB8uhRGJWMAgAMtAQC7Vzz6QAA"
    "AABJRU5ErkJggg=="
)
"""A whole image, 8 x 8 pixels, in base64: small enough for a page, real enough for the server to answer."""

_BINARY = {"type": "string", "format": "binary"}


def _query(known: Mapping[str, Known]) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "required": False, "description": _described(field), "schema": _as_text(field)}
        for name, field in known.items()
    ]


def _described(field: Known) -> str:
    """What a field is, and in words what it is by default: a page would send what a schema says, beside the body's."""
    text = str(field.schema["description"])
    return f"{text}; by default {json.dumps(field.schema['default'])}" if "default" in field.schema else text


def _headers() -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "required": False, "description": schema["description"], "schema": schema}
        for name, schema in HEADERS.items()
    ]


def _as_text(field: Known) -> dict[str, Any]:
    """The schema of a field in a query or form, where an object is JSON text: pages would fill in an empty one."""
    if field.schema["type"] == "object":
        return {"type": "string"}
    return {name: value for name, value in field.schema.items() if name != "default"}


def _object(known: Mapping[str, Known], **more: dict[str, Any]) -> dict[str, Any]:
    properties = {**more, **{name: field.schema for name, field in known.items()}}
    return {"type": "object", "properties": properties, "required": list(more), "additionalProperties": False}


def _form(known: Mapping[str, Known], files: dict[str, Any]) -> dict[str, Any]:
    """A form of files and fields. Fields are told as patterns: of a property, a page makes up a value and sends it."""
    fields = {f"^{name}$": {**_as_text(field), "description": _described(field)} for name, field in known.items()}
    return {**_object({}, files=files), "patternProperties": fields}


_FILES = {"type": "array", "items": _BINARY, "minItems": 1, "description": "one or more images"}
_IMAGES = {
    "type": "array",
    "items": {"type": "string"},
    "minItems": 1,
    "description": "images in base64, alone or as data URIs",
}

PREDICT_DOCS: dict[str, Any] = {
    "parameters": [*_query(PREDICT), *_headers()],
    "requestBody": {
        "required": True,
        "description": "Fields may stand in the body, in forms and JSON, or in the query.",
        "content": {
            "multipart/form-data": {"schema": _form(PREDICT, _FILES)},
            **{
                kind: {"schema": _BINARY, "example": f"the bytes of a file: curl --data-binary @{file}"}
                for kind, file in (("image/jpeg", "cat.jpg"), ("image/png", "cat.png"), ("image/webp", "cat.webp"))
            },
            "application/octet-stream": {"schema": _BINARY, "example": "the bytes of a file of any readable format"},
            "application/json": {
                "schema": _object(PREDICT, images=_IMAGES),
                "example": {
                    "images": [PNG, f"data:image/png;base64,{PNG}"],
                    "stream": "camera-7",
                    "strategy": "adabn",
                    "params": {"momentum": 0.2},
                    "update": True,
                    "top_k": 3,
                },
            },
        },
    },
}
"""Parameters and body of `POST /v1/predict`."""

_RESETS = {
    # The first is what a page sends unless told otherwise, beside what a person fills into the query.
    "query": {"summary": "What the query says", "value": {}},
    "stream": {"summary": "One stream", "value": {"stream": "camera-7"}},
    "strategy": {"summary": "All states of one strategy", "value": {"strategy": "adabn"}},
    "all": {"summary": "Everything", "value": {"all": True}},
}

RESET_DOCS: dict[str, Any] = {
    "parameters": _query(RESET),
    "requestBody": {
        "required": False,
        "description": "One of the fields, or `all` for everything.",
        "content": {"application/json": {"schema": _object(RESET), "examples": _RESETS}},
    },
}
"""Parameters and body of `POST /v1/admin/reset`."""

_ERRORS: dict[int, dict[str, Any]] = {
    400: wire("datatype must be one of BOOL, UINT8, FP32, not 'FP31'", "invalid_field", "inputs[0].datatype"),
    401: wire("this call needs a key with scope 'admin'; send it as 'Authorization: Bearer KEY'", "missing_key"),
    403: wire("key 'dashboard' is not for calls of scope 'admin'; send one that is", "forbidden"),
    404: wire("no state is held for stream 'camera-9'; a stream begins with its first request", "stream_not_found"),
    413: wire("200 images in one request, at most 128 are accepted; send them in several", "too_large", "files"),
    415: wire("bodies of type 'text/plain' are not read; send an image, a form or JSON", "unsupported_media_type"),
    422: wire("unknown strategy 'adabm': choose one of source, bn, adabn", "unknown_strategy", "strategy"),
    429: wire("the queue of stream 'camera-7' is full (256 waiting); send more slowly", "stream_busy", "stream"),
    500: wire("internal error; the server's log tells more", "internal"),
    501: wire("shared memory is not supported; send the data in the body", "unsupported", "inputs[0].parameters"),
    503: wire("the engine is closing; try again, or see /readyz", "unavailable"),
    504: wire("the request's forward did not begin within 0.5 s; send more slowly", "deadline"),
}


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the OpenAPI page says of these error statuses of a route."""
    return {
        status: {
            "model": ErrorResponse,
            "description": phrases[status],
            "content": {"application/json": {"example": _ERRORS[status]}},
        }
        for status in statuses
    }
