"""Conversion of the protocol's messages: to an `InferRequest`, and from a `Prediction`. Knows no gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from open_inference.grpc import protocol

from app.errors import FieldError
from app.models.hosted import Hosted
from app.oip.infer import InferRequest, check_memory
from app.oip.inputs import InputLimits, check_input
from app.oip.metadata import VERSION
from app.oip.outputs import read_outputs, response_parameters, to_tensors
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
"""The field of a tensor's contents that holds values of a datatype. The others are sent as raw bytes only."""

Message = TypeVar("Message")


def parse(kind: type[Message], body: bytes) -> Message:
    """Parse ``body`` as a message of type ``kind``.

    Raises:
        FieldError: it is not such a message.
    """
    try:
        message: Message = kind.FromString(body)  # type: ignore[attr-defined]
    except DecodeError as error:
        raise FieldError(f"the message is not a valid {kind.__name__}", hint="use the protocol's .proto") from error
    return message


def read_infer(message: protocol.ModelInferRequest, limits: InputLimits) -> InferRequest:
    """Read a request. Its outputs are raw bytes where its inputs are, unless ``binary_data_output`` says otherwise.

    Raises:
        FieldError: the message does not follow the protocol.
        TooLargeError: too many images.
        UnsupportedError: a tensor is in shared memory.
    """
    parameters = _parameters(message.parameters)
    binary = parameters.get("binary_data_output", bool(message.raw_input_contents))
    if not isinstance(binary, bool):
        raise FieldError("binary_data_output must be true or false", location="parameters.binary_data_output")
    outputs = [(output.name, _checked_parameters(output, f"outputs[{i}]")) for i, output in enumerate(message.outputs)]
    return InferRequest(_inputs(message, limits), read_outputs(outputs), parameters, message.id, binary)


def write_response(request: InferRequest, prediction: Prediction, stream: str, hosted: Hosted) -> bytes:
    """Return the body of the response to a request."""
    message = protocol.ModelInferResponse(model_name=hosted.name, model_version=VERSION, id=request.id)
    for name, value in response_parameters(prediction, stream).items():
        setattr(message.parameters[name], _KINDS[type(value)], value)
    for tensor in to_tensors(prediction, hosted.classes, request.outputs):
        output = message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.values.shape)
        if request.binary:
            message.raw_output_contents.append(to_bytes(tensor))
        else:
            getattr(output.contents, CONTENTS[tensor.datatype]).extend(tensor.values.ravel().tolist())
    return bytes(message.SerializeToString())


_KINDS = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}


def _parameters(parameters: Mapping[str, protocol.InferParameter]) -> dict[str, Any]:
    """Return values by name; None where a value is not set."""
    chosen = {name: (value, value.WhichOneof("parameter_choice")) for name, value in parameters.items()}
    return {name: None if choice is None else getattr(value, choice) for name, (value, choice) in chosen.items()}


def _checked_parameters(tensor: Any, location: str) -> dict[str, Any]:
    parameters = _parameters(tensor.parameters)
    check_memory(parameters, location)
    return parameters


def _inputs(message: protocol.ModelInferRequest, limits: InputLimits) -> list[NamedTensor]:
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise FieldError(
            f"there are {len(message.inputs)} inputs but {len(raw)} raw_input_contents",
            hint="send one for each input, in the order of inputs, or none and fill each input's contents",
            location="raw_input_contents",
        )
    return [_input(tensor, raw[i] if raw else None, limits, i) for i, tensor in enumerate(message.inputs)]


def _input(
    tensor: protocol.ModelInferRequest.InferInputTensor, raw: bytes | None, limits: InputLimits, i: int
) -> NamedTensor:
    location = f"inputs[{i}]"
    if not tensor.name:
        raise FieldError("an input must have a name", location=f"{location}.name")
    _checked_parameters(tensor, location)
    datatype, shape = check_kind(tensor.datatype, tuple(tensor.shape), location)
    # Before the data: a wrong shape can claim any amount of it.
    check_input(datatype, shape, limits, location)
    if raw is None:
        return NamedTensor(tensor.name, datatype, _typed(datatype, shape, tensor.contents, f"{location}.contents"))
    if tensor.HasField("contents"):
        raise FieldError("an input has both contents and raw_input_contents; send one", location=f"{location}.contents")
    return NamedTensor(tensor.name, datatype, np.asarray(from_bytes(datatype, shape, raw, f"raw_input_contents[{i}]")))


def _typed(
    datatype: str, shape: tuple[int, ...], contents: protocol.InferTensorContents, location: str
) -> NDArray[Any]:
    field = CONTENTS.get(datatype)
    if field is None:
        raise FieldError(f"{datatype} has no typed contents", hint="send it in raw_input_contents", location=location)
    wrong_fields = [descriptor.name for descriptor, _ in contents.ListFields() if descriptor.name != field]
    if wrong_fields:
        raise FieldError(f"{datatype} belongs in {field}, not in {wrong_fields[0]}", location=location)
    values = list(getattr(contents, field))
    return from_values(datatype, shape, values, location, lambda text, _: text.encode())
