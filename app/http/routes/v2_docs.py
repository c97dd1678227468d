"""What OpenAPI says of the Open Inference Protocol's calls."""

from __future__ import annotations

import json
import re
from typing import Any

from app.http.requests.headers import HEADERS
from app.http.responses.errors import wire
from app.http.responses.openapi import PNG, described
from app.oip.metadata import VERSION
from app.oip.outputs import OUTPUTS
from app.oip.parameters import LARGEST, OURS
from app.oip.request_body import HEADER
from app.oip.tensors import DATATYPES

_WORDS = {"model": "name of the hosted model", "version": "there is version 1"}


def path_parameters(path: str) -> list[dict[str, Any]]:
    """The parameters that stand in a path."""
    return [
        {"name": name, "in": "path", "required": True, "description": _WORDS[name], "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", path)
    ]


def name_model(document: dict[str, Any], name: str) -> None:
    """Let pages fill in the hosted model, which is the only one, and its only version, where a path asks for them."""
    only = {"model": name, "version": VERSION}
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path" and parameter["name"] in only:
                    parameter["example"] = only[parameter["name"]]


def errors(path: str, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """What is said of the errors of a path; one that names a model may name an unknown one."""
    found = described(*statuses)
    if "{" not in path:
        return found
    missing = described(404)[404]
    example = wire("no model 'resnet' is hosted; there is 'cifar10-resnet20'", "model_not_found", "model")
    return {**found, 404: {**missing, "content": {"application/json": {"example": example}}}}


def _maybe(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": [kind, "null"], **more}


_TYPES: dict[str, dict[str, Any]] = {
    "renorm_stream": {"type": "string", "minLength": 1},
    "renorm_strategy": {"type": "string", "minLength": 1},
    "renorm_update": {"type": "boolean"},
    "renorm_params": {"type": "string"},
    "renorm_request_id": {"type": "string", "minLength": 1},
}
_WHOLE = {"type": "integer", "minimum": 0, "maximum": LARGEST}
_PARAMETERS = _maybe(
    "object",
    description="beside these, a hyperparameter of the strategy each: renorm_momentum",
    properties={
        "sequence_id": {
            "oneOf": [_WHOLE, {"type": "string"}],
            "description": "the stream; 0 and the empty text are none",
        },
        "sequence_start": {"type": "boolean", "description": "the stream is new before this request"},
        "sequence_end": {"type": "boolean", "description": "the stream is forgotten after this request"},
        "timeout": {**_WHOLE, "description": "microseconds that the request may wait for its forward; 0 is any time"},
        "priority": {**_WHOLE, "description": "ignored: requests are answered in order"},
        "binary_data_output": {"type": "boolean", "description": "outputs follow the JSON as bytes"},
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
        "data": {"type": "array", "description": "flat, or nested like the shape; files in base64"},
    },
}
_WANTED = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "enum": list(OUTPUTS)},
        "parameters": _maybe(
            "object",
            properties={
                "binary_data": {"type": "boolean"},
                "classification": {"type": "integer", "minimum": 0, "description": "so many classes, the best first"},
            },
        ),
    },
}
_SCHEMA = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": _maybe("string", description="comes back with the answer; any number of requests may have the same"),
        "parameters": _PARAMETERS,
        "inputs": {"type": "array", "items": _INPUT, "minItems": 1, "maxItems": 1},
        "outputs": _maybe("array", items=_WANTED),
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
            "description": "bytes of the body that are JSON; 0: the whole body is one image",
            "schema": {"type": "integer", "minimum": 0},
        },
        *(
            {"name": name, "in": "header", "required": False, "description": schema["description"], "schema": schema}
            for name, schema in HEADERS.items()
        ),
    ],
    "requestBody": {
        "required": True,
        "description": "JSON of any content type, and behind it the tensors that are sent as bytes.",
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
        "content": {"application/octet-stream": {**_BYTES, "example": "JSON, and behind it tensors as bytes"}},
    }
}
"""An answer with outputs as bytes."""
