"""OpenAPI descriptions of errors and of bodies that routes parse themselves, with examples that work unchanged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import responses as phrases
from typing import Any

from adapters import UnknownStrategyError
from app import errors
from app.error_table import describe_error
from app.http.requests.fields import PREDICT, RESET, FieldSpec
from app.http.requests.headers import HEADERS
from app.schemas import ErrorResponse

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAHElEQVR42mOMWnCHARtgYsABqCjB8uhRGJWMAgAMtAQC7Vzz6QAA"
    "AABJRU5ErkJggg=="
)
"""A valid image of 8 x 8 pixels in base64, small enough for a page."""

_BINARY = {"type": "string", "format": "binary"}


def _query(specs: Mapping[str, FieldSpec]) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "required": False, "description": _description(field), "schema": _as_text(field)}
        for name, field in specs.items()
    ]


def _description(field: FieldSpec) -> str:
    """Return a field's description with its default: a page would send a schema's default beside the body's value."""
    text = str(field.schema["description"])
    return f"{text}; by default {json.dumps(field.schema['default'])}" if "default" in field.schema else text


def _headers() -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "required": False, "description": schema["description"], "schema": schema}
        for name, schema in HEADERS.items()
    ]


def _as_text(field: FieldSpec) -> dict[str, Any]:
    """Return the schema of a field in a query or form, where an object is JSON text: pages fill in an empty one."""
    if field.schema["type"] == "object":
        return {"type": "string"}
    return {name: value for name, value in field.schema.items() if name != "default"}


def _object(specs: Mapping[str, FieldSpec], **required: dict[str, Any]) -> dict[str, Any]:
    properties = {**required, **{name: field.schema for name, field in specs.items()}}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _form(specs: Mapping[str, FieldSpec], files: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a form. Fields are pattern properties: pages make up values of plain properties."""
    fields = {f"^{name}$": {**_as_text(field), "description": _description(field)} for name, field in specs.items()}
    return {**_object({}, files=files), "patternProperties": fields}


_FILES = {"type": "array", "items": _BINARY, "minItems": 1, "description": "one or more image files"}
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
        "description": "Fields may be in a form, in JSON, or in the query.",
        "content": {
            "multipart/form-data": {"schema": _form(PREDICT, _FILES)},
            **{
                kind: {"schema": _BINARY, "example": f"the bytes of a file: curl --data-binary @{file}"}
                for kind, file in (("image/jpeg", "cat.jpg"), ("image/png", "cat.png"), ("image/webp", "cat.webp"))
            },
            "application/octet-stream": {"schema": _BINARY, "example": "the bytes of a file of a supported format"},
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
    # A page sends the first by default, along with the query.
    "query": {"summary": "Only the query", "value": {}},
    "stream": {"summary": "One stream", "value": {"stream": "camera-7"}},
    "strategy": {"summary": "All states of one strategy", "value": {"strategy": "adabn"}},
    "all": {"summary": "Everything", "value": {"all": True}},
}

RESET_DOCS: dict[str, Any] = {
    "parameters": _query(RESET),
    "requestBody": {
        "required": False,
        "description": "Set `stream`, `strategy` or both, or `all` to reset everything.",
        "content": {"application/json": {"schema": _object(RESET), "examples": _RESETS}},
    },
}
"""Parameters and body of `POST /v1/admin/reset`."""

_ERRORS: dict[int, Exception] = {
    400: errors.FieldError("datatype must be one of BOOL, UINT8, FP32, not 'FP31'", location="inputs[0].datatype"),
    401: errors.MissingKeyError("this call needs a key with scope 'admin'; send it as 'Authorization: Bearer KEY'"),
    403: errors.AccessError("key 'dashboard' does not have scope 'admin'; send a key with scope 'admin'"),
    404: errors.StreamNotFoundError("stream 'camera-9' has no state; it gets one with its first answered request"),
    413: errors.TooLargeError("too many images in one request, at most 128 are accepted", location="files"),
    415: errors.MediaTypeError("Content-Type 'text/plain' is not supported; send an image, a form or JSON"),
    422: UnknownStrategyError("unknown strategy 'adabm': choose one of source, bn, adabn"),
    429: errors.StreamBusyError("the queue of stream 'camera-7' is full (256 waiting); send more slowly"),
    500: Exception("internal"),
    501: errors.UnsupportedError("shared memory is not supported", location="inputs[0].parameters"),
    503: errors.EngineClosedError("the engine is closing; try again, or see /readyz"),
    504: errors.DeadlineError("the request timed out: its forward did not start within 0.5 s; send more slowly"),
}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses of a route for these error statuses."""
    return {
        status: {
            "model": ErrorResponse,
            "description": phrases[status],
            "content": {"application/json": {"example": describe_error(_ERRORS[status]).members()}},
        }
        for status in statuses
    }
