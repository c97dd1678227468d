"""The protocol's messages: a request's to an `Infer`, an answer's from a `Prediction`. Knows no gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from open_inference.grpc import protocol

from app.errors import FieldError
from app.models.hosted import Hosted
from app.oip.infer import Infer, check_memory
from app.oip.inputs import InputLimits, check_input
from app.oip.metadata import VERSION
from app.oip.outputs import about, read_wanted, to_tensors
from app.oip.tensors import NamedTensor, check_kind, from_bytes, from_values, to_bytes
from app.types import Prediction

CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The field of a tensor's contents that holds values of a datatype. The others travel as raw bytes only."""

Message = TypeVar("Message")


class Asked(NamedTuple):
    """A request, and whether its outputs should be raw bytes rather than values in typed fields."""

    infer: Infer
    raw: bool


def parse(kind: type[Message], body: bytes) -> Message:
    """The message of that kind that ``body`` holds.

    Raises:
        FieldError: it holds none.
    """
    try:
        message: Message = kind.FromString(body)  # type: ignore[attr-defined]
    except DecodeError as error:
        raise FieldError(f"the message is no {kind.__name__}", hint="use the protocol's own definitions") from error
    return message


def read_infer(message: protocol.ModelInferRequest, limits: InputLimits) -> Asked:
    """What a request asks. Its outputs are raw where its inputs are, unless ``binary_data_output`` says otherwise.

    Raises:
        FieldError: the message is not what the protocol says.
        TooLargeError: too many images.
        UnsupportedError: a tensor lies in shared memory.
    """
    parameters = _parameters(message.parameters)
    raw = parameters.get("binary_data_output", bool(message.raw_input_contents))
    if not isinstance(raw, bool):
        raise FieldError("binary_data_output must be true or false", location="parameters.binary_data_output")
    outputs = [(one.name, _memory(one, f"outputs[{i}]")) for i, one in enumerate(message.outputs)]
    return Asked(Infer(_inputs(message, limits), read_wanted(outputs), parameters, message.id), raw)


def write_answer(asked: Asked, prediction: Prediction, stream: str, hosted: Hosted) -> bytes:
    """The body of the answer to a request."""
    message = protocol.ModelInferResponse(model_name=hosted.name, model_version=VERSION, id=asked.infer.id)
    for name, value in about(prediction, stream).items():
        setattr(message.parameters[name], _KINDS[type(value)], value)
    for tensor in to_tensors(prediction, hosted.classes, asked.infer.wanted):
        output = message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.values.shape)
        if asked.raw:
            message.raw_output_contents.append(to_bytes(tensor))
        else:
            getattr(output.contents, CONTENTS[tensor.datatype]).extend(tensor.values.ravel().tolist())
    return bytes(message.SerializeToString())


_KINDS = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}


def _parameters(given: Mapping[str, protocol.InferParameter]) -> dict[str, Any]:
    """Names to values; None is one whose value is not set."""
    chosen = {name: (value, value.WhichOneof("parameter_choice")) for name, value in given.items()}
    return {name: None if choice is None else getattr(value, choice) for name, (value, choice) in chosen.items()}


def _memory(one: Any, location: str) -> dict[str, Any]:
    parameters = _parameters(one.parameters)
    check_memory(parameters, location)
    return parameters


def _inputs(message: protocol.ModelInferRequest, limits: InputLimits) -> list[NamedTensor]:
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise FieldError(
            f"there are {len(message.inputs)} inputs and {len(raw)} raw_input_contents",
            hint="send one for each input, in their order, or none and fill the contents of the inputs",
            location="raw_input_contents",
        )
    return [_input(one, raw[i] if raw else None, limits, i) for i, one in enumerate(message.inputs)]


def _input(
    one: protocol.ModelInferRequest.InferInputTensor, raw: bytes | None, limits: InputLimits, i: int
) -> NamedTensor:
    location = f"inputs[{i}]"
    if not one.name:
        raise FieldError("an input must have a name", location=f"{location}.name")
    _memory(one, location)
    datatype, shape = check_kind(one.datatype, tuple(one.shape), location)
    # Before the data: a wrong shape can ask for any amount of it.
    check_input(datatype, shape, limits, location)
    if raw is None:
        return NamedTensor(one.name, datatype, _typed(datatype, shape, one.contents, f"{location}.contents"))
    if one.HasField("contents"):
        raise FieldError("an input has both contents and raw_input_contents", location=f"{location}.contents")
    return NamedTensor(one.name, datatype, np.asarray(from_bytes(datatype, shape, raw, f"raw_input_contents[{i}]")))


def _typed(
    datatype: str, shape: tuple[int, ...], contents: protocol.InferTensorContents, location: str
) -> NDArray[Any]:
    field = CONTENTS.get(datatype)
    if field is None:
        raise FieldError(f"{datatype} has no typed contents", hint="send it in raw_input_contents", location=location)
    others = [found.name for found, _ in contents.ListFields() if found.name != field]
    if others:
        raise FieldError(f"{datatype} belongs in {field}, not in {others[0]}", location=location)
    values = list(getattr(contents, field))
    return from_values(datatype, shape, values, location, lambda text, _: text.encode())
