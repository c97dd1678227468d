"""Parsing of an inference request over HTTP: JSON, followed by the tensors that are sent as bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson

from app.errors import FieldError
from app.oip.infer import InferRequest, check_memory
from app.oip.inputs import InputLimits, check_input
from app.oip.outputs import OUTPUTS, OutputRequest, read_outputs
from app.oip.tensors import NamedTensor, check_kind, from_bytes, from_values, objects

HEADER = "Inference-Header-Content-Length"
"""The HTTP header with the number of bytes of a body that are JSON."""

_FILES = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"II*\0", b"MM\0*")


class BodyReader(NamedTuple):
    """Limits of inputs, and the function that decodes the text of a BYTES element in JSON."""

    limits: InputLimits
    read_text: Callable[[str, str], bytes]


def read_body(body: bytes, header: str | None, reader: BodyReader) -> InferRequest:
    """Read a complete body; ``header`` is the value of ``Inference-Header-Content-Length``, or None without one.

    With a header of 0 the body is one image: the network's input, if it has exactly as many bytes and does not begin
    like an image file, and otherwise an image file.

    Raises:
        FieldError: the body does not follow the protocol.
        TooLargeError: too many images.
    """
    size = _header(header, len(body))
    if header is not None and size == 0:
        return _raw(body, reader.limits.input)
    message = _json(body[:size])
    parameters = _object(message, "parameters", "")
    binary = parameters.get("binary_data_output", False)
    if not isinstance(binary, bool):
        raise FieldError("binary_data_output must be true or false", location="parameters.binary_data_output")
    name = message.get("id") or ""
    if not isinstance(name, str):
        raise FieldError(f"id must be text, not {str(name)[:50]}", location="id")
    inputs = _inputs(message, memoryview(body)[size:], reader)
    outputs = [
        (output.get("name"), _checked_parameters(output, f"outputs[{i}]")) for i, output in _list(message, "outputs")
    ]
    return InferRequest(inputs, read_outputs(outputs), parameters, name, binary)


def _header(header: str | None, length: int) -> int:
    if header is None:
        return length
    if not re.fullmatch("[0-9]{1,18}", header) or int(header) > length:
        raise FieldError(
            f"{HEADER} must be an integer from 0 to the {length} bytes of the body, not {header[:50]!r}",
            hint="it is the length of the JSON before the binary data, without compression",
            location=HEADER,
        )
    return int(header)


def _raw(body: bytes, shape: tuple[int, int, int]) -> InferRequest:
    if not body:
        raise FieldError("the body is empty", hint=f"with {HEADER}: 0 send one image", location="body")
    if len(body) == 4 * math.prod(shape) and not body.startswith(_FILES):
        values = from_bytes("FP32", (1, *shape), body, "body")
        tensor = NamedTensor("input", "FP32", values)
    else:
        tensor = NamedTensor("input", "BYTES", objects([body], (1,)))
    return InferRequest([tensor], [OutputRequest(name) for name in OUTPUTS], {}, binary=True)


def _json(raw: bytes) -> dict[str, Any]:
    try:
        message = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        infinite = re.search(rb"\b(NaN|Infinity)\b", raw)
        hint = f"{infinite[0].decode()} is not a valid JSON number: send finite numbers" if infinite else _HINT
        raise FieldError(f"the body is not valid JSON: {error}", hint=hint, location="body") from error
    if not isinstance(message, dict):
        raise FieldError("the body must be a JSON object", hint=_HINT, location="body")
    return message


_HINT = (
    f"send an inference request; where binary tensors follow the JSON, set {HEADER} to the length of the JSON, "
    "or to 0 where the body is one image"
)


def _inputs(message: Mapping[str, Any], tail: memoryview, reader: BodyReader) -> list[NamedTensor]:
    tensors = []
    for i, tensor in _list(message, "inputs"):
        location = f"inputs[{i}]"
        size = _checked_parameters(tensor, location).get("binary_data_size")
        if size is None:
            tensors.append(_tensor(tensor, None, reader, location))
            continue
        if type(size) is not int or not 0 <= size <= len(tail):
            raise FieldError(
                f"binary_data_size is {str(size)[:50]}, but {len(tail)} bytes are left after the JSON",
                hint=_HINT,
                location=f"{location}.parameters.binary_data_size",
            )
        tensors.append(_tensor(tensor, tail[:size], reader, location))
        tail = tail[size:]
    if len(tail):
        raise FieldError(f"{len(tail)} bytes after the JSON belong to no input", hint=_HINT, location="body")
    return tensors


def _tensor(tensor: Mapping[str, Any], raw: memoryview | None, reader: BodyReader, location: str) -> NamedTensor:
    name = tensor.get("name")
    if not isinstance(name, str) or not name:
        raise FieldError("an input must have a name", location=f"{location}.name")
    datatype, shape = check_kind(tensor.get("datatype"), tensor.get("shape"), location)
    # Before the data: a wrong shape can claim any amount of it.
    check_input(datatype, shape, reader.limits, location)
    place = f"{location}.data"
    if raw is None:
        values = from_values(datatype, shape, tensor.get("data"), place, reader.read_text)
    elif "data" in tensor:
        raise FieldError("an input has both data and binary_data_size; send one of them", location=place)
    else:
        values = from_bytes(datatype, shape, raw, place)
    return NamedTensor(name, datatype, np.asarray(values))


def _checked_parameters(member: Mapping[str, Any], location: str) -> Mapping[str, Any]:
    parameters = _object(member, "parameters", f"{location}.")
    check_memory(parameters, location)
    return parameters


def _object(message: Mapping[str, Any], name: str, prefix: str) -> Mapping[str, Any]:
    value = message.get(name)
    if value is not None and not isinstance(value, dict):
        raise FieldError(f"{name} must be a JSON object", location=f"{prefix}{name}")
    return value or {}


def _list(message: Mapping[str, Any], name: str) -> list[tuple[int, Mapping[str, Any]]]:
    value = message.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(element, dict) for element in value):
        raise FieldError(f"{name} must be a list of JSON objects", location=name)
    return list(enumerate(value))
