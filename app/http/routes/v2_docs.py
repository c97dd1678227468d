"""OpenAPI descriptions of the Open Inference Protocol's calls."""

from __future__ import annotations

import json
import re
from typing import Any

from app.error_table import describe_error
from app.errors import ModelNotFoundError
from app.http.requests.headers import HEADERS
from app.http.responses.openapi import PNG, error_responses
from app.oip.metadata import VERSION
from app.oip.outputs import OUTPUTS
from app.oip.parameters import LARGEST, OURS
from app.oip.request_body import HEADER
from app.oip.tensors import DATATYPES

_WORDS = {"model": "name of the hosted model", "version": "version of the model, always 1"}


def path_parameters(path: str) -> list[dict[str, Any]]:
    """Return the parameters of a path."""
    return [
        {"name": name, "in": "path", "required": True, "description": _WORDS[name], "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", path)
    ]


def name_model(document: dict[str, Any], name: str) -> None:
    """Make the hosted model and its version the examples of path parameters, so that pages fill them in."""
    only = {"model": name, "version": VERSION}
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path" and parameter["name"] in only:
                    parameter["example"] = only[parameter["name"]]


def errors(path: str, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the responses of a path for these error statuses, and 404 where it names a model."""
    responses = error_responses(*statuses)
    if "{" not in path:
        return responses
    missing = error_responses(404)[404]
    text = "model 'resnet' is not hosted; the hosted model is 'cifar10-resnet20'"
    example = describe_error(ModelNotFoundError(text, location="model")).members()
    return {**responses, 404: {**missing, "content": {"application/json": {"example": example}}}}


def _maybe(kind: str, **constraints: Any) -> dict[str, Any]:
    return {"type": [kind, "null"], **constraints}


_TYPES: dict[str, dict[str, Any]] = {
    "renorm_stream": {"type": "string", "minLength": 1},
    "renorm_strategy": {"type": "string", "minLength": 1},
    "renorm_update": {"type": "boolean"},
    "renorm_params": {"type": "string"},
    "renorm_explain": {"type": "boolean"},
    "renorm_request_id": {"type": "string", "minLength": 1},
}
_UNSIGNED = {"type": "integer", "minimum": 0, "maximum": LARGEST}
_PARAMETERS = _maybe(
    "object",
    description="beside these, one for each hyperparameter of the strategy, such as renorm_momentum",
    properties={
        "sequence_id": {
            "oneOf": [_UNSIGNED, {"type": "string"}],
            "description": "name of the stream; 0 and the empty text mean none",
        },
        "sequence_start": {"type": "boolean", "description": "reset the stream before this request"},
        "sequence_end": {"type": "boolean", "description": "reset the stream after this request"},
        "timeout": {**_UNSIGNED, "description": "microseconds to wait for the forward pass at most; 0: no limit"},
        "priority": {**_UNSIGNED, "description": "ignored: requests are processed in order"},
        "binary_data_output": {"type": "boolean", "description": "send outputs as bytes after the JSON"},
        **{name: {**_TYPES[name], "description": text} for name, text in OURS.items()},
    },
)
_INPUT = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "datatype": {"type": "string", "enum": list(DATATYPES)},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "parameters": _maybe("object", properties={"binary_data_size": {"type": "integer", "minimum": 0}}),
        "data": {"type": "array", "description": "values, flat or nested like the shape; image files in base64"},
    },
}
_OUTPUT = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "enum": list(OUTPUTS)},
        "parameters": _maybe(
            "object",
            properties={
                "binary_data": {"type": "boolean"},
                "classification": {"type": "integer", "minimum": 0, "description": "number of top classes to return"},
            },
        ),
    },
}
_SCHEMA = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": _maybe("string", description="returned with the response; requests may share one"),
        "parameters": _PARAMETERS,
        "inputs": {"type": "array", "items": _INPUT, "minItems": 1, "maxItems": 1},
        "outputs": _maybe("array", items=_OUTPUT),
    },
}
_EXAMPLE = {
    "id": "42",
    "parameters": {"sequence_id": "camera-7", "renorm_strategy": "adabn", "renorm_momentum": 0.2},
    "inputs": [{"name": "bytes", "datatype": "BYTES", "shape": [1], "data": [PNG]}],
    "outputs": [{"name": "label"}, {"name": "probabilities", "parameters": {"classification": 3}}],
}
_BYTES = {"schema": {"type": "string", "format": "binary"}}

INFER_DOCS: dict[str, Any] = {
    "parameters": [
        {
            "name": HEADER,
            "in": "header",
            "required": False,
            "description": "number of bytes of the body that are JSON; 0: the body is one image",
            "schema": {"type": "integer", "minimum": 0},
        },
        *(
            {"name": name, "in": "header", "required": False, "description": schema["description"], "schema": schema}
            for name, schema in HEADERS.items()
        ),
    ],
    "requestBody": {
        "required": True,
        "description": "JSON of any Content-Type, followed by the tensors that are sent as bytes.",
        "content": {
            "application/json": {"schema": _SCHEMA, "example": _EXAMPLE},
            "application/octet-stream": {**_BYTES, "example": json.dumps(_EXAMPLE)},
        },
    },
}
"""Headers and body of an inference request."""

BINARY_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Successful Response",
        "content": {"application/octet-stream": {**_BYTES, "example": "JSON, followed by tensors as bytes"}},
    }
}
"""A response with outputs as bytes."""
