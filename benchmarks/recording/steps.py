"""One request of a stream, as every door takes it."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
from open_inference.grpc import protocol

from .doors import Doors
from .entries import RecordedAnswer
from .images import Pixels, encode_all, prepare

MODEL = "cifar10-resnet20"
INFER = f"/v2/models/{MODEL}/infer"
CHUNK = 3


@dataclass(frozen=True)
class RecordedStep:
    """A request: its stream, strategy, hyperparameters and images ``[n, 32, 32, 3]``.

    ``number`` chooses the formats of files and which of its names a field goes by; ``fields`` are further fields of
    the server's own calls, of which ``update`` is known to all doors, ``extra`` further parameters of the protocol.
    """

    stream: str
    strategy: str
    params: dict[str, Any]
    frames: Pixels
    number: int = 0
    fields: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The content of the request, to tell whether two recordings sent the same."""
        text = repr((self.stream, self.strategy, self.params, self.number, self.fields, self.extra, self.frames.shape))
        return sha256(text.encode() + self.frames.tobytes()).hexdigest()[:16]

    def files(self) -> list[bytes]:
        """Return the images as files."""
        return encode_all(self.frames, self.number)

    def texts(self) -> dict[str, str]:
        """Return the fields as a form or query holds them."""
        params = {"params": json.dumps(self.params)} if self.params else {}
        fields = {name: value if isinstance(value, str) else json.dumps(value) for name, value in self.fields.items()}
        return {"stream": self.stream, "strategy": self.strategy, **params, **fields}

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of the Open Inference Protocol."""
        stream = {("sequence_id", "renorm_stream")[self.number % 2]: self.stream}
        params = {"renorm_params": json.dumps(self.params)} if self.params else {}
        update = {"renorm_update": self.fields["update"]} if "update" in self.fields else {}
        return {**stream, "renorm_strategy": self.strategy, **params, **update, **self.extra}


def form_files(files: Sequence[bytes]) -> list[tuple[str, tuple[str, bytes, str]]]:
    """Return the files as `httpx` takes them for a form."""
    return [("files", (f"{i}.img", content, "application/octet-stream")) for i, content in enumerate(files)]


def form(doors: Doors, step: RecordedStep) -> list[RecordedAnswer]:
    """Send a multipart form."""
    return [doors.call("POST", "/v1/predict", files=form_files(step.files()), data=step.texts())]


def raw(doors: Doors, step: RecordedStep) -> list[RecordedAnswer]:
    """Send the first image as the body."""
    return [doors.call("POST", "/v1/predict", content=step.files()[0], params=step.texts())]


def json_body(doors: Doors, step: RecordedStep) -> list[RecordedAnswer]:
    """Send base64 in JSON, every other image as a data URI."""
    texts = [base64.b64encode(content).decode() for content in step.files()]
    images = [f"data:image/png;base64,{text}" if i % 2 else text for i, text in enumerate(texts)]
    params = {"params": step.params} if step.params else {}
    body = {"stream": step.stream, "strategy": step.strategy, **params, **step.fields, "images": images}
    return [doors.call("POST", "/v1/predict", json=body)]


def ndjson(doors: Doors, step: RecordedStep) -> list[RecordedAnswer]:
    """Send a form that is answered line by line."""
    files, query = form_files(step.files()), {"chunk": str(CHUNK)}
    return [doors.call("POST", "/v1/predict/stream", files=files, data=step.texts(), params=query)]


def live(doors: Doors, step: RecordedStep) -> list[RecordedAnswer]:
    """Send up to three images as frames of one connection, each after the answer to the one before."""
    fields = {name: text for name, text in step.texts().items() if name != "stream"}
    return doors.live(step.stream, step.files()[:3], **fields)


def oip_json_files(doors: Doors, step: RecordedStep) -> list[RecordedAnswer]:
    """Send image files in JSON."""
    data = [base64.b64encode(content).decode() for content in step.files()]
    return [oip_json(doors, step, {"name": "bytes", "datatype": "BYTES", "shape": [len(data)], "data": data})]


def oip_json_pixels(doors: Doors, step: RecordedStep) -> list[RecordedAnswer]:
    """Send pixels as numbers in JSON, flat or nested."""
    data = step.frames.reshape(-1).tolist() if step.number % 2 else step.frames.tolist()
    shape = list(step.frames.shape)
    return [oip_json(doors, step, {"name": "image", "datatype": "UINT8", "shape": shape, "data": data})]


def oip_binary_tensor(doors: Doors, step: RecordedStep) -> list[RecordedAnswer]:
    """Send the network's own input as bytes behind the JSON."""
    return [oip_binary(doors, step, "FP32", list(step.frames.shape), tensor(doors, step).tobytes())]


def oip_binary_pixels(doors: Doors, step: RecordedStep) -> list[RecordedAnswer]:
    """Send pixels as bytes behind the JSON."""
    return [oip_binary(doors, step, "UINT8", list(step.frames.shape), step.frames.tobytes())]


def oip_binary_files(doors: Doors, step: RecordedStep) -> list[RecordedAnswer]:
    """Send image files as bytes behind the JSON."""
    content = b"".join(struct.pack("<I", len(file)) + file for file in step.files())
    return [oip_binary(doors, step, "BYTES", [len(step.frames)], content)]


def grpc_raw_tensor(doors: Doors, step: RecordedStep) -> list[RecordedAnswer]:
    """Send the network's own input raw."""
    values = tensor(doors, step)
    inputs = [{"name": "input", "datatype": "FP32", "shape": list(values.shape)}]
    return [doors.infer(infer_request(step.parameters(), inputs, [values.tobytes()]))]


def grpc_raw_pixels(doors: Doors, step: RecordedStep) -> list[RecordedAnswer]:
    """Send pixels raw."""
    inputs = [{"name": "image", "datatype": "UINT8", "shape": list(step.frames.shape)}]
    return [doors.infer(infer_request(step.parameters(), inputs, [step.frames.tobytes()]))]


def grpc_typed_files(doors: Doors, step: RecordedStep) -> list[RecordedAnswer]:
    """Send image files in the typed contents of the input."""
    contents = {"bytes_contents": step.files()}
    inputs = [{"name": "bytes", "datatype": "BYTES", "shape": [len(step.frames)], "contents": contents}]
    return [doors.infer(infer_request(step.parameters(), inputs))]


DOORS: dict[str, Callable[[Doors, RecordedStep], list[RecordedAnswer]]] = {
    "form": form,
    "oip-binary-tensor": oip_binary_tensor,
    "raw": raw,
    "grpc-raw-pixels": grpc_raw_pixels,
    "json": json_body,
    "oip-json-files": oip_json_files,
    "ndjson": ndjson,
    "oip-binary-pixels": oip_binary_pixels,
    "live": live,
    "grpc-typed-files": grpc_typed_files,
    "oip-json-pixels": oip_json_pixels,
    "oip-binary-files": oip_binary_files,
    "grpc-raw-tensor": grpc_raw_tensor,
}
"""Every way in; those with rounded answers stand beside those that answer in full precision."""


def tensor(doors: Doors, step: RecordedStep) -> Any:
    """Return the step's images as the network's own input."""
    preprocessing = doors.model()["preprocessing"]
    return prepare(step.frames, preprocessing["mean"], preprocessing["std"])


def oip_json(doors: Doors, step: RecordedStep, tensors: dict[str, Any], **members: Any) -> RecordedAnswer:
    """Send one input in JSON; ``members`` are further members of the request."""
    document = {"id": f"r{step.number}", "parameters": step.parameters(), "inputs": [tensors], **members}
    return doors.call("POST", INFER, json=document)


def oip_binary(
    doors: Doors, step: RecordedStep, datatype: str, shape: Sequence[int], content: bytes, **members: Any
) -> RecordedAnswer:
    """Send one input as bytes behind the JSON, and ask for outputs as bytes."""
    if datatype in ("FP16", "FP32", "FP64", "BF16"):
        shape = [shape[0], shape[3], shape[1], shape[2]]
    tensors = {"name": "x", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(content)}}
    parameters = {**step.parameters(), "binary_data_output": True}
    head = json.dumps({"parameters": parameters, "inputs": [tensors], **members}).encode()
    return doors.call("POST", INFER, content=head + content, headers=header_length(len(head)))


def header_length(length: int) -> dict[str, str]:
    """Return the header that says where the JSON ends."""
    return {"Inference-Header-Content-Length": str(length), "Content-Type": "application/octet-stream"}


def infer_request(
    parameters: dict[str, Any], inputs: Sequence[dict[str, Any]], contents: Sequence[bytes] = (), **members: Any
) -> Any:
    """Return a message of the protocol, for the hosted model unless ``members`` name another."""
    values = {name: infer_parameter(value) for name, value in parameters.items()}
    options = {"model_name": MODEL, "inputs": inputs, "raw_input_contents": contents, "parameters": values, **members}
    return protocol.ModelInferRequest(**options)


def infer_parameter(value: Any) -> Any:
    """Return a parameter of the protocol of the value's type."""
    kinds = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
    return protocol.InferParameter(**{kinds[type(value)]: value})


def bfloat16(values: Any) -> bytes:
    """Return float32 numbers as bfloat16, cut off."""
    return bytes((np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes())
