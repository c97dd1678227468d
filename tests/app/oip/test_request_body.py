from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from app.errors import FieldError, TooLargeError, UnsupportedError
from app.oip.infer import InferRequest
from app.oip.inputs import InputLimits
from app.oip.outputs import OUTPUTS, OutputRequest
from app.oip.request_body import BodyReader, read_body

HOW = BodyReader(InputLimits((3, 2, 2), images=3), lambda text, _: text.encode().upper())
FP32 = {"name": "input", "datatype": "FP32", "shape": [1, 3, 2, 2]}
NUMBERS = np.arange(12, dtype=np.float32)


def read(message: Any, rest: bytes = b"", header: str | None = "") -> InferRequest:
    head = json.dumps(message).encode()
    return read_body(head + rest, str(len(head)) if header == "" else header, HOW)


def request(one: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"inputs": [{**FP32, "data": NUMBERS.tolist()} if one is None else one], **more}


def test_json_alone() -> None:
    for header in ("", None):
        body = read(request(id="42", parameters={"a": 1}), header=header)
        (tensor,) = body.inputs
        assert tensor.values.ravel().tolist() == NUMBERS.tolist()
        assert (body.id, body.parameters, body.binary) == ("42", {"a": 1}, False)
        assert [one.name for one in body.outputs] == list(OUTPUTS)


def test_null_members_equal_absent_ones() -> None:
    body = read(request({**FP32, "parameters": None, "data": [0] * 12}, id=None, parameters=None, outputs=None))
    assert (body.id, body.parameters) == ("", {})


def test_bytes_behind_the_json() -> None:
    wanted = [{"name": "label", "parameters": {"binary_data": False}}, {"name": "index"}]
    given = {**FP32, "parameters": {"binary_data_size": 48}}
    body = read(request(given, outputs=wanted, parameters={"binary_data_output": True}), NUMBERS.tobytes())
    assert body.inputs[0].values.ravel().tolist() == NUMBERS.tolist()
    assert body.binary
    assert body.outputs == [OutputRequest("label", 0, False), OutputRequest("index")]


def test_text_of_files_is_read_as_it_is_told_and_bytes_are_not() -> None:
    one = {"name": "b", "datatype": "BYTES", "shape": [1]}
    assert read(request({**one, "data": ["ab"]})).inputs[0].values.tolist() == [b"AB"]
    given = read(request({**one, "parameters": {"binary_data_size": 6}}), b"\x02\0\0\0ab")
    assert given.inputs[0].values.tolist() == [b"ab"]


def test_a_raw_body_is_the_networks_input_or_else_a_file() -> None:
    for raw, datatype, shape in (
        (NUMBERS.tobytes(), "FP32", (1, 3, 2, 2)),
        (b"\x89PNG" + bytes(44), "BYTES", (1,)),
        (b"\xff\xd8\xff" + bytes(45), "BYTES", (1,)),
        (b"anything", "BYTES", (1,)),
    ):
        body = read_body(raw, "0", HOW)
        (tensor,) = body.inputs
        assert (tensor.datatype, tensor.values.shape, body.binary) == (datatype, shape, True)
        assert tensor.values.tobytes() == raw if datatype == "FP32" else tensor.values[0] == raw


def test_an_empty_raw_body_is_no_image() -> None:
    with pytest.raises(FieldError, match="the body is empty"):
        read_body(b"", "0", HOW)


@pytest.mark.parametrize("header", ["-1", "x", "", "9" * 19, "1000", "1.0", "²"])
def test_wrong_headers(header: str) -> None:
    with pytest.raises(FieldError, match="must be an integer from 0 to the") as caught:
        read_body(b"{}", header, HOW)
    assert caught.value.location == "Inference-Header-Content-Length"


BINARY = {**FP32, "parameters": {"binary_data_size": 48}}
WRONG: dict[str, tuple[Any, bytes, str, str]] = {
    "list": ([], b"", "must be a JSON object", "body"),
    "inputs": ({"inputs": {}}, b"", "inputs must be a list", "inputs"),
    "input": ({"inputs": [1]}, b"", "inputs must be a list of JSON objects", "inputs"),
    "outputs": (request(outputs=["label"]), b"", "outputs must be a list", "outputs"),
    "output": (request(outputs=[{"name": "x"}]), b"", "unknown output 'x'", "outputs[0]"),
    "id": (request(id=5), b"", "id must be text", "id"),
    "parameters": (request(parameters=[1]), b"", "parameters must be a JSON object", "parameters"),
    "binary": (request(parameters={"binary_data_output": 1}), b"", "true or false", "parameters.binary_data_output"),
    "input's": (request({**FP32, "parameters": []}), b"", "must be a JSON object", "inputs[0].parameters"),
    "output's": (request(outputs=[{"parameters": 1}]), b"", "must be a JSON object", "outputs[0].parameters"),
    "name": (request({**FP32, "name": ""}), b"", "must have a name", "inputs[0].name"),
    "datatype": (request({**FP32, "datatype": "x"}), b"", "datatype must be", "inputs[0].datatype"),
    "shape": (request({**FP32, "shape": "x"}), b"", "shape must be", "inputs[0].shape"),
    "other shape": (request({**FP32, "shape": [1, 3, 2, 3]}), b"", "not an input of this model", "inputs[0].shape"),
    "no data": (request(FP32), b"", "data must be a list", "inputs[0].data"),
    "twice": (request({**BINARY, "data": [1]}), bytes(48), "send one of them", "inputs[0].data"),
    "size": (
        request({**FP32, "parameters": {"binary_data_size": 49}}),
        bytes(48),
        "binary_data_size is 49, but 48 bytes are left",
        "inputs[0].parameters.binary_data_size",
    ),
    "other size": (request({**FP32, "parameters": {"binary_data_size": 40}}), bytes(40), "takes 48", "inputs[0].data"),
    "no size": (
        request({**FP32, "parameters": {"binary_data_size": True}}),
        b"",
        "binary_data_size is True",
        "inputs[0].parameters.binary_data_size",
    ),
    "rest": (request(BINARY), bytes(50), "2 bytes after the JSON belong to no input", "body"),
    "rest of none": (request(), bytes(1), "1 bytes after", "body"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_bodies(case: str) -> None:
    message, rest, says, location = WRONG[case]
    with pytest.raises(FieldError) as caught:
        read(message, rest)
    assert says in caught.value.message
    assert caught.value.location == location


def test_no_inputs_are_for_the_call_to_refuse() -> None:
    assert read({}).inputs == []


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b'{"a":1e999}', b"[" * 5000, b'"\\ud800"'])
def test_no_json(raw: bytes) -> None:
    with pytest.raises(FieldError, match="not valid JSON") as caught:
        read_body(raw, None, HOW)
    assert "send an inference request" in caught.value.hint


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_nan_and_infinity_are_named_in_the_hint(number: str) -> None:
    with pytest.raises(FieldError) as caught:
        read_body(f'{{"inputs":[{{"data":[1,{number}]}}]}}'.encode(), None, HOW)
    assert f"{number.strip('-')} is not a valid JSON number" in caught.value.hint


def test_too_many_images_before_their_data_is_read() -> None:
    with pytest.raises(TooLargeError, match="at most 3"):
        read(request({**FP32, "shape": [4, 3, 2, 2], "data": "never looked at"}))


def test_shared_memory() -> None:
    for message in (
        request({**FP32, "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 48}}),
        request(outputs=[{"name": "label", "parameters": {"shared_memory_region": "r"}}]),
    ):
        with pytest.raises(UnsupportedError):
            read(message)
