"""Predictions with every field, header, datatype and encoding of the doors."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import steps
from .doors import Doors
from .entries import Entry, RecordedAnswer
from .images import ImageSource, encode
from .steps import DOORS, INFER, RecordedStep

StepMaker = Callable[..., RecordedStep]

FEATURES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("adabn", {}),
    ("robust_bn", {}),
    ("tent", {}),
    ("adabn+lame", {}),
    ("rotta", {"capacity": 8, "update_every": 4}),
)
"""Strategies with which fields, headers and encodings are tried."""


def feature_entries(doors: Doors, strategy: str, params: dict[str, Any], source: ImageSource) -> Iterator[Entry]:
    """Yield the answers of one strategy to each feature."""

    def step(count: int, **options: Any) -> RecordedStep:
        return RecordedStep(f"features-{strategy}", strategy, params, source.take(count), **options)

    for door, send in DOORS.items():
        for update in (True, False):
            request = step(3, fields={"update": update})
            for i, answer in enumerate(send(doors, request)):
                yield Entry(f"{strategy} {door} update={update} {i}", answer.kind, *answer, request.digest)
    for maker in (_field_requests, _sequence_requests, _datatype_requests, _encoding_requests):
        for name, request, answer in maker(doors, step):
            yield Entry(f"{strategy} {name}", answer.kind, *answer, request.digest)
    query = {"stream": f"features-{strategy}"}
    for name, answer in [
        ("reset", doors.call("POST", "/v1/admin/reset", json={**query, "strategy": strategy})),
        ("state gone", doors.call("GET", f"/v1/streams/{query['stream']}")),
        *[(f"after reset {i}", steps.oip_binary_pixels(doors, step(8))[0]) for i in range(2)],
        ("state", doors.call("GET", f"/v1/streams/{query['stream']}")),
        ("delete", doors.call("DELETE", f"/v1/streams/{query['stream']}")),
        ("after delete", steps.grpc_raw_tensor(doors, step(8))[0]),
    ]:
        yield Entry(f"{strategy} {name}", answer.kind if name.startswith("after") else "description", *answer)


def _field_requests(doors: Doors, step: StepMaker) -> Iterator[tuple[str, RecordedStep, RecordedAnswer]]:
    """Yield requests with fields and headers of the server's own calls."""
    for door in ("form", "raw", "json", "live", "ndjson"):
        for top_k in (1, 3):
            request = step(1, fields={"top_k": top_k})
            yield f"{door} top_k={top_k}", request, DOORS[door](doors, request)[0]
    request = step(2)
    for attempt in ("first", "again"):
        key = {"Idempotency-Key": f"key-{request.strategy}"}
        form: dict[str, Any] = {"files": steps.form_files(request.files()), "data": request.texts(), "headers": key}
        yield f"key {attempt}", request, doors.call("POST", "/v1/predict", **form)
    request = step(2, fields={"timeout": 60})
    query = request.texts()
    files = steps.form_files(request.files())
    yield "query of a form", request, doors.call("POST", "/v1/predict", files=files, params=query)
    for header in ("X-Stream-Id", "X-Session-Id"):
        request = step(1)
        options: dict[str, Any] = {"content": request.files()[0], "headers": {header: request.stream}}
        options["params"] = {name: text for name, text in request.texts().items() if name != "stream"}
        yield header, request, doors.call("POST", "/v1/predict", **options)


def _sequence_requests(doors: Doors, step: StepMaker) -> Iterator[tuple[str, RecordedStep, RecordedAnswer]]:
    """Yield sequences of the Open Inference Protocol, and requests that are sent again."""
    marks: tuple[dict[str, Any], ...] = (
        {"sequence_start": True},
        {},
        {"sequence_end": True},
        {},
        {"timeout": 60_000_000},
    )
    for door in ("oip-binary-tensor", "grpc-raw-pixels", "oip-json-files"):
        for i, extra in enumerate(marks):
            request = step(2, extra={**extra, "priority": 1})
            yield f"{door} sequence {i}", request, DOORS[door](doors, request)[0]
        request = step(2, extra={"renorm_request_id": f"id-{door}"})
        for attempt in ("first", "again"):
            yield f"{door} id {attempt}", request, DOORS[door](doors, request)[0]
        request = step(2, extra={"sequence_id": 77})
        yield f"{door} numbered", request, DOORS[door](doors, request)[0]
    for header in ("x-stream-id", "idempotency-key"):
        request = step(1)
        inputs = [{"name": "image", "datatype": "UINT8", "shape": list(request.frames.shape)}]
        message = steps.infer_request({"renorm_strategy": request.strategy}, inputs, [request.frames.tobytes()])
        yield f"grpc {header}", request, doors.infer(message, metadata={header: f"grpc-{request.strategy}"})


def _datatype_requests(doors: Doors, step: StepMaker) -> Iterator[tuple[str, RecordedStep, RecordedAnswer]]:
    """Yield inputs of every datatype, and answers with other outputs."""
    for datatype in ("FP16", "FP32", "FP64", "BF16"):
        request = step(2)
        values = steps.tensor(doors, request)
        kinds = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64}
        content = values.astype(kinds[datatype]).tobytes() if datatype in kinds else steps.bfloat16(values)
        yield datatype, request, steps.oip_binary(doors, request, datatype, request.frames.shape, content)
    outputs: dict[str, dict[str, Any]] = {
        "label": {"outputs": [{"name": "label"}]},
        "two outputs": {"outputs": [{"name": "index"}, {"name": "probabilities", "parameters": {"binary_data": True}}]},
        "classes": {"outputs": [{"name": "probabilities", "parameters": {"classification": 3}}]},
    }
    for name, members in outputs.items():
        request = step(2)
        content = request.frames.tobytes()
        yield name, request, steps.oip_binary(doors, request, "UINT8", request.frames.shape, content, **members)


def _encoding_requests(doors: Doors, step: StepMaker) -> Iterator[tuple[str, RecordedStep, RecordedAnswer]]:
    """Yield tensors and files in other encodings."""
    request = step(2)
    values = {"name": "x", "datatype": "FP32", "shape": [2, 3, 32, 32], "data": steps.tensor(doors, request).tolist()}
    yield "FP32 in JSON", request, steps.oip_json(doors, request, values)
    contents = {"fp32_contents": steps.tensor(doors, request).reshape(-1).tolist()}
    inputs = [{"name": "x", "datatype": "FP32", "shape": [2, 3, 32, 32], "contents": contents}]
    yield "FP32 typed", request, doors.infer(steps.infer_request(request.parameters(), inputs))
    data = [base64.b64encode(content).decode() for content in request.files()]
    image = {"name": "bytes", "datatype": "BYTES", "shape": [2, 1], "data": data}
    body = json.dumps({"parameters": request.parameters(), "inputs": [image]}).encode()
    for coding, content in {"gzip": gzip.compress(body, mtime=0), "deflate": zlib.compress(body)}.items():
        yield coding, request, doors.call("POST", INFER, content=content, headers={"Content-Encoding": coding})
    for name, content in {
        "one file": encode(request.frames[0], 0),
        "one tensor": steps.tensor(doors, step(1)).tobytes(),
    }.items():
        headers = {**steps.header_length(0), "X-Stream-Id": request.stream}
        yield name, request, doors.call("POST", INFER, content=content, headers=headers)
    request = step(2, extra={"renorm_update": True, "unknown": 1})
    yield "version", request, doors.call("POST", f"/v2/models/{steps.MODEL}/versions/1/infer", content=body)
