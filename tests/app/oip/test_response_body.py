from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferResult

from app.oip.outputs import OutputRequest
from app.oip.response_body import WireResponse, write_response
from app.oip.tensors import NamedTensor, objects

TENSORS = [
    NamedTensor("probabilities", "FP32", np.array([[0.1, 0.9]], np.float32)),
    NamedTensor("label", "BYTES", objects(["kuh ä".encode()], (1,))),
    NamedTensor("index", "INT64", np.array([2**40], np.int64)),
]


def write(binary: bool, **one: bool) -> WireResponse:
    wanted = [OutputRequest(tensor.name, 0, one.get(tensor.name)) for tensor in TENSORS]
    return write_response({"model_name": "m"}, TENSORS, wanted, binary=binary)


def read(answer: WireResponse) -> Any:
    """As NVIDIA's client reads it."""
    header = None if answer.header is None else str(answer.header)
    return InferResult.from_response_body(answer.body, header_length=header)


def test_json() -> None:
    answer = write(binary=False)
    assert answer.header is None
    assert json.loads(answer.body) == {
        "model_name": "m",
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [1, 2], "data": [0.1, 0.9]},
            {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["kuh ä"]},
            {"name": "index", "datatype": "INT64", "shape": [1], "data": [2**40]},
        ],
    }


@pytest.mark.parametrize(("binary", "one"), [(True, {}), (False, {"label": True}), (True, {"probabilities": False})])
def test_bytes(binary: bool, one: dict[str, bool]) -> None:
    answer = write(binary, **one)
    assert answer.header is not None
    assert answer.header < len(answer.body)
    result = read(answer)
    assert result.as_numpy("probabilities") == pytest.approx(np.array([[0.1, 0.9]]))
    assert result.as_numpy("index").tolist() == [2**40]
    assert result.as_numpy("label").tolist()[0] == "kuh ä".encode()
    for output in json.loads(answer.body[: answer.header])["outputs"]:
        as_bytes = one.get(output["name"], binary)
        assert ("binary_data_size" in output.get("parameters", {}), "data" in output) == (as_bytes, not as_bytes)


def test_tensors_without_values() -> None:
    empty = [
        NamedTensor("probabilities", "FP32", np.zeros((0, 3), np.float32)),
        NamedTensor("label", "BYTES", objects([], (0,))),
    ]
    for binary in (True, False):
        answer = write_response({}, empty, [OutputRequest("probabilities"), OutputRequest("label")], binary=binary)
        assert (answer.header == len(answer.body)) is binary
        assert read(answer).as_numpy("probabilities").shape == (0, 3)
        assert read(answer).as_numpy("label").shape == (0,)
