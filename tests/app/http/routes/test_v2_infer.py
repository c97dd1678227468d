from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from torch import Tensor
from tritonclient.http import InferResult

from adapters import ParameterError
from app.errors import (
    BusyError,
    DeadlineError,
    FieldError,
    ImageError,
    StreamBusyError,
    TooLargeError,
    UnanswerableError,
)
from app.http.responses.openapi import PNG
from app.oip.request_body import HEADER
from app.types import Call
from tests.app.fakes import CLASSES, PROBABILITIES, Client, refusal

URL = "/v2/models/fake-net/infer"
FILE = {"name": "bytes", "datatype": "BYTES", "shape": [1], "data": [PNG]}
NUMBERS = np.linspace(-2, 2, 3 * 32 * 32, dtype=np.float32).reshape(1, 3, 32, 32)
INPUT = {"name": "input", "datatype": "FP32", "shape": [1, 3, 32, 32]}


def message(**more: Any) -> bytes:
    return json.dumps({"inputs": [FILE], **more}).encode()


def binary(one: dict[str, Any], raw: bytes, **more: Any) -> tuple[bytes, dict[str, str]]:
    head = message(inputs=[{**one, "parameters": {"binary_data_size": len(raw)}}], **more)
    return head + raw, {HEADER: str(len(head))}


def asked(client: Client, content: bytes, headers: dict[str, str] | None = None) -> Call:
    response = client.post(URL, content=content, headers=headers or {})
    assert response.status_code == 200, response.text
    return client.engine.calls[-1]


def read(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return InferResult.from_response_body(response.content, header_length=response.headers.get(HEADER))


@pytest.mark.parametrize("kind", [None, "application/octet-stream", "application/json", "text/plain", "garbage"])
@pytest.mark.parametrize("url", [URL, "/v2/models/fake-net/versions/1/infer"])
def test_the_body_is_read_whatever_its_type_is_called(kind: str | None, url: str) -> None:
    client = Client()
    response = client.post(url, content=message(), headers={} if kind is None else {"Content-Type": kind})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "model_name": "fake-net",
        "model_version": "1",
        "parameters": {
            "renorm_stream": "default",
            "renorm_strategy": "adabn",
            "renorm_step": 1,
            "renorm_updated": True,
            "renorm_outliers": 0,
            "renorm_weight": 1.0,
            "renorm_state_origin": "live",
            "renorm_entropy": pytest.approx(1.65057677),
            "renorm_drift": 0.5,
            "renorm_adaptation": 0.25,
        },
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [1, 7], "data": pytest.approx(PROBABILITIES)},
            {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["cow"]},
            {"name": "index", "datatype": "INT64", "shape": [1], "data": [2]},
        ],
    }


def test_files_in_base64_arrive_as_files() -> None:
    client = Client()
    (found,) = asked(client, message()).images
    assert isinstance(found, bytes)
    assert found.startswith(b"\x89PNG")
    uri = message(inputs=[{**FILE, "data": [f"data:image/png;base64,{PNG}"]}])
    assert asked(client, uri).images == [found]


def test_tensors_arrive_as_tensors() -> None:
    client = Client()
    pixels = np.arange(2 * 5 * 4 * 3, dtype=np.uint8).reshape(2, 5, 4, 3)
    given = {"name": "image", "datatype": "UINT8", "shape": [2, 5, 4, 3]}
    for body in (binary(INPUT, NUMBERS.tobytes()), (message(inputs=[{**INPUT, "data": NUMBERS.tolist()}]), {})):
        found = asked(client, *body).images
        assert isinstance(found, Tensor)
        assert torch.equal(found, torch.tensor(NUMBERS))
    for body in (binary(given, pixels.tobytes()), (message(inputs=[{**given, "data": pixels.ravel().tolist()}]), {})):
        found = asked(client, *body).images
        assert isinstance(found, Tensor)
        assert torch.equal(found, torch.tensor(pixels))


def test_a_raw_body_is_one_image_and_is_answered_in_bytes() -> None:
    client = Client()
    response = client.post(URL, content=NUMBERS.tobytes(), headers={HEADER: "0"})
    found = client.engine.calls[-1].images
    assert isinstance(found, Tensor)
    assert torch.equal(found, torch.tensor(NUMBERS))
    assert response.headers["content-type"] == "application/octet-stream"
    assert read(response).as_numpy("label").tolist() == [b"cow"]
    client.post(URL, content=b"\x89PNG...", headers={HEADER: "0", "X-Stream-Id": "raw"})
    assert client.engine.calls[-1].images == [b"\x89PNG..."]
    assert client.engine.calls[-1].stream == "raw"


@pytest.mark.parametrize("fold", [gzip.compress, zlib.compress])
def test_compressed_bodies(fold: Any) -> None:
    client = Client()
    body, headers = binary(INPUT, NUMBERS.tobytes())
    coding = "gzip" if fold is gzip.compress else "deflate"
    found = asked(client, fold(body), {**headers, "Content-Encoding": coding}).images
    assert isinstance(found, Tensor)
    assert torch.equal(found, torch.tensor(NUMBERS))


def test_compressed_bodies_that_are_refused() -> None:
    client = Client(max_decompressed_bytes=1000)
    bomb = client.post(URL, content=gzip.compress(bytes(1001)), headers={"Content-Encoding": "gzip"})
    assert "larger than 1000" in refusal(bomb, 413, "too_large", "body")
    other = client.post(URL, content=b"x", headers={"Content-Encoding": "br"})
    refusal(other, 415, "unsupported_media_type", "body")
    damaged = client.post(URL, content=b"x", headers={"Content-Encoding": "gzip"})
    refusal(damaged, 400, "invalid_field", "body")
    assert client.engine.calls == []
    assert client.post(URL, content=message(), headers={"Content-Encoding": "identity"}).status_code == 200


def test_outputs_as_they_are_asked_for() -> None:
    client = Client()
    wanted = [
        {"name": "label"},
        {"name": "probabilities", "parameters": {"classification": 2, "binary_data": False}},
    ]
    response = client.post(URL, content=message(outputs=wanted, parameters={"binary_data_output": True}, id="x-7"))
    assert client.engine.calls[-1].top_k == 2
    result = read(response)
    assert result.get_response()["id"] == "x-7"
    assert [output["name"] for output in result.get_response()["outputs"]] == ["label", "probabilities"]
    assert result.get_output("probabilities")["data"] == ["0.400000:2:cow", "0.200000:3:dog"]
    assert result.as_numpy("label").tolist() == [b"cow"]


def test_large_answers_are_whole() -> None:
    client = Client(max_images=4000)
    given = {"name": "b", "datatype": "BYTES", "shape": [3000], "data": ["AAAA"] * 3000}
    response = client.post(URL, content=message(inputs=[given]))
    assert read(response).as_numpy("probabilities").shape == (3000, len(CLASSES))


def test_parameters_and_headers_reach_the_engine() -> None:
    client = Client()
    said = {
        "sequence_id": 9,
        "sequence_start": True,
        "sequence_end": True,
        "timeout": 250_000,
        "priority": 1,
        "renorm_strategy": "unmix_tns",
        "renorm_momentum": 0.5,
        "renorm_update": False,
        "anything": "else",
    }
    headers = {"X-Stream-Id": "header", "Idempotency-Key": "k-1"}
    call = asked(client, message(parameters=said), headers)
    assert (call.stream, call.start, call.end, call.timeout_s, call.update) == ("9", True, True, 0.25, False)
    assert (call.strategy, call.params, call.request_id) == ("unmix_tns", {"momentum": 0.5}, "k-1")
    call = asked(client, message(id="no key"), {"X-Session-Id": "header"})
    assert (call.stream, call.request_id, call.start, call.timeout_s) == ("header", None, False, None)


WRONG: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "not valid JSON", "body"),
    "text": (b"hello", "not valid JSON", "body"),
    "list": (b"[]", "must be a JSON object", "body"),
    "NaN": (b'{"inputs":[{"data":[NaN]}]}', "NaN is not a valid JSON number", "body"),
    "no inputs": (b"{}", "exactly one input", "inputs"),
    "two inputs": (message(inputs=[FILE, FILE]), "exactly one input", "inputs"),
    "other shape": (message(inputs=[{**INPUT, "shape": [1, 3, 9, 9]}]), "FP32 [n, 3, 32, 32]", "inputs[0].shape"),
    "no base64": (message(inputs=[{**FILE, "data": ["?"]}]), "is not valid base64", "inputs[0].data[0]"),
    "output": (message(outputs=[{"name": "logits"}]), "the outputs are probabilities", "outputs[0]"),
    "reserved": (message(parameters={"triton_a": 1}), "triton_", "parameters.triton_a"),
    "unknown": (message(parameters={"renorm_a": 1}), "renorm_shrinkage.horizon", "parameters.renorm_a"),
    "strategy": (message(parameters={"renorm_strategy": "x", "renorm_a": 1}), "choose one of", "strategy"),
    "stream": (message(parameters={"sequence_id": "a/b"}), "without '/'", "stream"),
    "start": (message(parameters={"sequence_start": True}), "need a sequence_id", "parameters.sequence_id"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_400_and_reach_no_stream(case: str) -> None:
    body, says, location = WRONG[case]
    client = Client()
    response = client.post(URL, content=body)
    code = "unknown_strategy" if case == "strategy" else "invalid_field"
    assert says in refusal(response, 400, code, location)
    assert client.engine.calls == []


def test_other_refusals_before_the_engine() -> None:
    client = Client(max_images=2, max_body_bytes=5000)
    many = {**FILE, "shape": [3], "data": [PNG] * 3}
    refusal(client.post(URL, content=message(inputs=[many])), 413, "too_large", "inputs[0].shape")
    refusal(client.post(URL, content=bytes(5001)), 413, "too_large", "body")
    shared = {**FILE, "parameters": {"shared_memory_region": "r"}}
    refusal(client.post(URL, content=message(inputs=[shared])), 501, "unsupported", "inputs[0].parameters")
    refusal(client.post(URL, content=message(), headers={HEADER: "x"}), 400, "invalid_field", HEADER)
    refusal(client.post(URL, content=message(), headers={"X-Stream-Id": "a/b"}), 400, "invalid_field", "X-Stream-Id")
    assert client.engine.calls == []


@pytest.mark.parametrize(
    ("failure", "status", "code", "location"),
    [
        (ImageError("m", image=0), 400, "unreadable_image", "inputs[0].data[0]"),
        (FieldError("m", location="images"), 400, "invalid_field", "inputs[0].data"),
        (UnanswerableError("m"), 400, "not_finite", None),
        (ParameterError("m"), 400, "invalid_parameter", "params"),
        (TooLargeError("m"), 413, "too_large", None),
        (StreamBusyError("m"), 429, "stream_busy", "stream"),
        (BusyError("m"), 503, "busy", None),
        (DeadlineError("m"), 504, "deadline", None),
        (RuntimeError("m"), 500, "internal", None),
    ],
)
def test_failures_of_the_engine(failure: Exception, status: int, code: str, location: str | None) -> None:
    client = Client()
    client.engine.failure = failure
    refusal(client.post(URL, content=message()), status, code, location)


def test_the_example_of_the_page_is_answered() -> None:
    client = Client()
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"):
        operation = paths[path]["post"]
        example = operation["requestBody"]["content"]["application/json"]["example"]
        assert client.post(path.format(model="fake-net", version="1"), json=example).status_code == 200
        assert set(operation["responses"]) >= {"200", "400", "404", "413", "415", "429", "500", "501", "503", "504"}
        assert "422" not in operation["responses"]
        assert set(operation["responses"]["200"]["content"]) == {"application/json", "application/octet-stream"}
