"""The body of an inference request over HTTP: JSON, and behind it the tensors that are sent as bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson

from app.errors import FieldError
from app.oip.infer import Infer, check_memory
from app.oip.inputs import InputLimits, check_input
from app.oip.outputs import OUTPUTS, Wanted, read_wanted
from app.oip.tensors import NamedTensor, check_kind, from_bytes, from_values, objects

HEADER = "Inference-Header-Content-Length"
"""The HTTP header that says how many bytes of a body are JSON."""

_FILES = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"II*\0", b"MM\0*")


class Reading(NamedTuple):
    """What is needed to read a body: the limits of inputs, and how the text of a JSON element becomes bytes."""

    limits: InputLimits
    read_text: Callable[[str, str], bytes]


class Body(NamedTuple):
    """A request, and whether its outputs should be bytes where it does not say so of one."""

    infer: Infer
    binary: bool


def read_body(body: bytes, header: str | None, how: Reading) -> Body:
    """Read a whole body; ``header`` is the value of ``Inference-Header-Content-Length``, or None without one.

    With a header of 0 all of the body is one image: the network's input, if it has as many bytes as that and does not
    begin as an image file does, and else an image file.

    Raises:
        FieldError: the body is not what the protocol says.
        TooLargeError: too many images.
    """
    size = _header(header, len(body))
    if header is not None and size == 0:
        return _raw(body, how.limits.input)
    message = _json(body[:size])
    parameters = _object(message, "parameters", "")
    binary = parameters.get("binary_data_output", False)
    if not isinstance(binary, bool):
        raise FieldError("binary_data_output must be true or false", location="parameters.binary_data_output")
    name = message.get("id") or ""
    if not isinstance(name, str):
        raise FieldError(f"id must be text, not {str(name)[:50]}", location="id")
    inputs = _inputs(message, memoryview(body)[size:], how)
    outputs = [(one.get("name"), _memory(one, f"outputs[{i}]")) for i, one in _list(message, "outputs")]
    return Body(Infer(inputs, read_wanted(outputs), parameters, name), binary)


def _header(header: str | None, length: int) -> int:
    if header is None:
        return length
    if not re.fullmatch("[0-9]{1,18}", header) or int(header) > length:
        raise FieldError(
            f"{HEADER} must be a number of bytes, at most the {length} of the body, not {header[:50]!r}",
            hint="it says how long the JSON before the binary data is, before any compression",
            location=HEADER,
        )
    return int(header)


def _raw(body: bytes, shape: tuple[int, int, int]) -> Body:
    if not body:
        raise FieldError("the body is empty", hint=f"with {HEADER}: 0 it is one image", location="body")
    if len(body) == 4 * math.prod(shape) and not body.startswith(_FILES):
        values = from_bytes("FP32", (1, *shape), body, "body")
        tensor = NamedTensor("input", "FP32", values)
    else:
        tensor = NamedTensor("input", "BYTES", objects([body], (1,)))
    return Body(Infer([tensor], [Wanted(name) for name in OUTPUTS], {}), binary=True)


def _json(raw: bytes) -> dict[str, Any]:
    try:
        message = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        infinite = re.search(rb"\b(NaN|Infinity)\b", raw)
        hint = f"{infinite[0].decode()} is no JSON number: send finite ones" if infinite else _HINT
        raise FieldError(f"the body is not valid JSON: {error}", hint=hint, location="body") from error
    if not isinstance(message, dict):
        raise FieldError("the body must be a JSON object", hint=_HINT, location="body")
    return message


_HINT = (
    f"send an inference request; where tensors follow as bytes, say in {HEADER} where they begin, "
    "and 0 where the whole body is one image"
)


def _inputs(message: Mapping[str, Any], rest: memoryview, how: Reading) -> list[NamedTensor]:
    tensors = []
    for i, one in _list(message, "inputs"):
        location = f"inputs[{i}]"
        size = _memory(one, location).get("binary_data_size")
        if size is None:
            tensors.append(_tensor(one, None, how, location))
            continue
        if type(size) is not int or not 0 <= size <= len(rest):
            raise FieldError(
                f"binary_data_size is {str(size)[:50]}, and {len(rest)} bytes are left behind the JSON",
                hint=_HINT,
                location=f"{location}.parameters.binary_data_size",
            )
        tensors.append(_tensor(one, rest[:size], how, location))
        rest = rest[size:]
    if len(rest):
        raise FieldError(f"{len(rest)} bytes behind the JSON belong to no input", hint=_HINT, location="body")
    return tensors


def _tensor(one: Mapping[str, Any], raw: memoryview | None, how: Reading, location: str) -> NamedTensor:
    name = one.get("name")
    if not isinstance(name, str) or not name:
        raise FieldError("an input must have a name", location=f"{location}.name")
    datatype, shape = check_kind(one.get("datatype"), one.get("shape"), location)
    # Before the data: a wrong shape can ask for any amount of it.
    check_input(datatype, shape, how.limits, location)
    place = f"{location}.data"
    if raw is None:
        values = from_values(datatype, shape, one.get("data"), place, how.read_text)
    elif "data" in one:
        raise FieldError("an input has data and binary_data_size; send one of them", location=place)
    else:
        values = from_bytes(datatype, shape, raw, place)
    return NamedTensor(name, datatype, np.asarray(values))


def _memory(one: Mapping[str, Any], location: str) -> Mapping[str, Any]:
    parameters = _object(one, "parameters", f"{location}.")
    check_memory(parameters, location)
    return parameters


def _object(message: Mapping[str, Any], name: str, before: str) -> Mapping[str, Any]:
    value = message.get(name)
    if value is not None and not isinstance(value, dict):
        raise FieldError(f"{name} must be a JSON object", location=f"{before}{name}")
    return value or {}


def _list(message: Mapping[str, Any], name: str) -> list[tuple[int, Mapping[str, Any]]]:
    value = message.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise FieldError(f"{name} must be a list of JSON objects", location=name)
    return list(enumerate(value))
