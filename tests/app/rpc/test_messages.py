from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from open_inference.grpc import protocol

from app.errors import FieldError, RenormError, TooLargeError, UnsupportedError
from app.oip.inputs import InputLimits, to_images
from app.oip.tensors import DATATYPES, from_bytes
from app.rpc.messages import CONTENTS, parse, read_infer, write_response
from app.settings import Settings
from app.types import Call
from tests.app.fakes import CLASSES, PROBABILITIES, FakeEngine
from tests.app.rpc.doors import PIXELS, ask, parameter, values_of

LIMITS = InputLimits((3, 4, 4), 3)
FLOATS: NDArray[np.float32] = np.linspace(-2, 2, 96, dtype=np.float32).reshape(2, 3, 4, 4)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize(
    ("values", "datatype"), [(PIXELS, "UINT8"), (FLOATS, "FP32"), (FLOATS.astype(np.float64), "FP64")]
)
def test_raw_and_typed_inputs_say_the_same(values: NDArray[Any], datatype: str, raw: bool) -> None:
    asked = read_infer(ask(values, datatype, raw=raw), LIMITS)
    (tensor,) = asked.inputs
    assert (tensor.name, tensor.datatype) == ("input", datatype)
    assert np.array_equal(tensor.values, values)
    assert asked.binary is raw


def test_files_are_bytes_either_way() -> None:
    request = protocol.ModelInferRequest(
        inputs=[{"name": "f", "datatype": "BYTES", "shape": [2], "contents": {"bytes_contents": [b"a\0", b"\xff"]}}]
    )
    assert to_images(read_infer(request, LIMITS).inputs, LIMITS) == [b"a\0", b"\xff"]
    request.inputs[0].ClearField("contents")
    request.raw_input_contents.append(b"\2\0\0\0a\0\1\0\0\0\xff")
    assert to_images(read_infer(request, LIMITS).inputs, LIMITS) == [b"a\0", b"\xff"]


def test_half_floats_are_raw() -> None:
    asked = read_infer(ask(FLOATS.astype(np.float16), "FP16"), LIMITS)
    assert asked.inputs[0].values.dtype == np.float16
    assert set(DATATYPES) - set(CONTENTS) == {"FP16", "BF16"}


def test_every_kind_of_parameter_keeps_its_type() -> None:
    request = ask(sequence_id="s", renorm_momentum=0.25, sequence_start=True, timeout=3)
    request.parameters["priority"].uint64_param = 2**64 - 1
    request.parameters["empty"].SetInParent()
    assert read_infer(request, LIMITS).parameters == {
        **{"sequence_id": "s", "renorm_momentum": 0.25, "sequence_start": True, "timeout": 3},
        **{"priority": 2**64 - 1, "empty": None},
    }


def test_outputs_that_are_asked_for() -> None:
    request = ask()
    request.id = "42"
    request.outputs.add(name="probabilities").parameters["classification"].int64_param = 3
    request.outputs.add(name="label")
    infer = read_infer(request, LIMITS)
    assert [(one.name, one.classes) for one in infer.outputs] == [("probabilities", 3), ("label", 0)]
    assert infer.id == "42"


@pytest.mark.parametrize(("raw", "said"), [(True, False), (False, True)])
def test_a_parameter_says_how_outputs_are_sent(raw: bool, said: bool) -> None:
    assert read_infer(ask(raw=raw, binary_data_output=said), LIMITS).binary is said


def _no_name(request: protocol.ModelInferRequest) -> None:
    request.inputs[0].name = ""


def _short(request: protocol.ModelInferRequest) -> None:
    request.raw_input_contents[0] = b"abc"


def _two_raw(request: protocol.ModelInferRequest) -> None:
    request.raw_input_contents.append(b"")


def _both(request: protocol.ModelInferRequest) -> None:
    request.inputs[0].contents.uint_contents.append(1)


def _neither(request: protocol.ModelInferRequest) -> None:
    del request.raw_input_contents[:]


def _other_field(request: protocol.ModelInferRequest) -> None:
    del request.raw_input_contents[:]
    request.inputs[0].contents.int_contents.append(1)


def _too_big(request: protocol.ModelInferRequest) -> None:
    del request.raw_input_contents[:]
    request.inputs[0].contents.uint_contents.extend([256] * PIXELS.size)


def _half(request: protocol.ModelInferRequest) -> None:
    del request.raw_input_contents[:]
    request.inputs[0].datatype = "FP16"
    request.inputs[0].shape[:] = [1, 3, 4, 4]


def _negative(request: protocol.ModelInferRequest) -> None:
    request.inputs[0].shape[0] = -1


def _huge(request: protocol.ModelInferRequest) -> None:
    request.inputs[0].shape[0] = 4


def _datatype(request: protocol.ModelInferRequest) -> None:
    request.inputs[0].datatype = "FP128"


def _output(request: protocol.ModelInferRequest) -> None:
    request.outputs.add(name="logits")


def _shared_output(request: protocol.ModelInferRequest) -> None:
    request.outputs.add(name="label").parameters["shared_memory_region"].string_param = "r"


def _shared(request: protocol.ModelInferRequest) -> None:
    request.inputs[0].parameters["shared_memory_region"].string_param = "r"


def _binary(request: protocol.ModelInferRequest) -> None:
    request.parameters["binary_data_output"].int64_param = 1


@pytest.mark.parametrize(
    ("spoil", "kind", "says", "location"),
    [
        (_no_name, FieldError, "must have a name", "inputs[0].name"),
        (_short, FieldError, "takes 90 bytes, got 3", "raw_input_contents[0]"),
        (_two_raw, FieldError, "1 inputs but 2 raw", "raw_input_contents"),
        (_both, FieldError, "both contents and raw_input_contents", "inputs[0].contents"),
        (_neither, FieldError, "data has shape [0]", "inputs[0].contents"),
        (_other_field, FieldError, "UINT8 belongs in uint_contents, not in int_contents", "inputs[0].contents"),
        (_too_big, FieldError, "not integers from 0 to 255", "inputs[0].contents"),
        (_half, FieldError, "FP16 has no typed contents", "inputs[0].contents"),
        (_negative, FieldError, "integers", "inputs[0].shape"),
        (_huge, TooLargeError, "at most 3", "inputs[0].shape"),
        (_datatype, FieldError, "FP128", "inputs[0].datatype"),
        (_output, FieldError, "logits", "outputs[0]"),
        (_shared, UnsupportedError, "shared memory", "inputs[0].parameters"),
        (_shared_output, UnsupportedError, "shared memory", "outputs[0].parameters"),
        (_binary, FieldError, "true or false", "parameters.binary_data_output"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_message_that_is_wrong(
    spoil: Callable[[protocol.ModelInferRequest], None], kind: type[RenormError], says: str, location: str
) -> None:
    request = ask()
    spoil(request)
    with pytest.raises(kind) as caught:
        read_infer(request, LIMITS)
    assert says in caught.value.message
    assert caught.value.location == location


def test_bytes_that_are_no_message() -> None:
    assert parse(protocol.ModelInferRequest, ask().SerializeToString()) == ask()
    with pytest.raises(FieldError, match="the message is not a valid ModelInferRequest"):
        parse(protocol.ModelInferRequest, b"\xff\xff")


def answered(request: protocol.ModelInferRequest) -> protocol.ModelInferResponse:
    engine = FakeEngine(Settings())
    prediction = asyncio.run(engine.predict(Call([b"1", b"2"], top_k=2)))
    body = write_response(read_infer(request, LIMITS), prediction, "camera-7", engine.hosted)
    return parse(protocol.ModelInferResponse, body)


def test_an_answer() -> None:
    request = ask()
    request.id = "42"
    for raw in (True, False):
        request.parameters["binary_data_output"].CopyFrom(parameter(raw))
        message = answered(request)
        assert (message.model_name, message.model_version, message.id) == ("fake-net", "1", "42")
        said = values_of(message.parameters)
        assert {
            name: said[name] for name in ("renorm_stream", "renorm_step", "renorm_updated", "renorm_state_origin")
        } == {
            **{"renorm_stream": "camera-7", "renorm_step": 1, "renorm_updated": True, "renorm_state_origin": "live"},
        }
        assert [(one.name, one.datatype, list(one.shape)) for one in message.outputs] == [
            *(("probabilities", "FP32", [2, 7]), ("label", "BYTES", [2]), ("index", "INT64", [2])),
        ]
        assert _contents(message, raw) == [pytest.approx(2 * PROBABILITIES), 2 * [CLASSES[2].encode()], [2, 2]]


def _contents(message: protocol.ModelInferResponse, raw: bool) -> list[list[Any]]:
    if not raw:
        assert not message.raw_output_contents
        return [list(getattr(one.contents, CONTENTS[one.datatype])) for one in message.outputs]
    assert not any(one.HasField("contents") for one in message.outputs)
    pairs = zip(message.outputs, message.raw_output_contents, strict=True)
    return [from_bytes(one.datatype, tuple(one.shape), part, "").ravel().tolist() for one, part in pairs]


def test_ranked_classes_are_text() -> None:
    request = ask(raw=False)
    request.outputs.add(name="probabilities").parameters["classification"].int64_param = 2
    (output,) = answered(request).outputs
    assert (output.datatype, list(output.shape)) == ("BYTES", [2, 2])
    assert list(output.contents.bytes_contents)[:2] == [b"0.400000:2:cow", b"0.200000:3:dog"]
