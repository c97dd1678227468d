"""The doors of a server, called one request at a time, and their answers in the form of a recording."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc
import httpx
from open_inference.grpc import protocol, service
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from .entries import RecordedAnswer, split
from .server import Address

HEADERS = (
    "content-type",
    "allow",
    "www-authenticate",
    "inference-header-content-length",
    "access-control-allow-origin",
)
TIMEOUT = 120.0


class Doors:
    """A client of all doors of one server; ``key`` is sent with every call."""

    def __init__(self, address: Address, key: str = "") -> None:
        self.address = address
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.http = httpx.Client(base_url=f"http://{address.http}", headers=self.headers, timeout=TIMEOUT)
        self._channel = grpc.insecure_channel(address.grpc)
        self._stub = service.GRPCInferenceServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Doors:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()
        self._channel.close()

    def model(self) -> dict[str, Any]:
        """Return the description of the hosted model."""
        document: dict[str, Any] = self.http.get("/v1/model").raise_for_status().json()
        return document

    def call(self, method: str, path: str, *, prose: bool = False, **options: Any) -> RecordedAnswer:
        """Return the answer to an HTTP request; the options are those of ``httpx.Client.request``."""
        return http_answer(self.http.request(method, path, **options), prose=prose)

    def live(self, stream: str, messages: Sequence[bytes | str], **fields: str) -> list[RecordedAnswer]:
        """Return the answer to each message of a WebSocket connection, or the one refusal of its handshake."""
        url = f"ws://{self.address.http}/v1/streams/{stream}/live?{httpx.QueryParams(fields)}"
        answers: list[RecordedAnswer] = []
        try:
            with connect(url, additional_headers=self.headers, proxy=None, max_size=None) as connection:
                for message in messages:
                    connection.send(message)
                    body, wording = split(json.loads(connection.recv(timeout=TIMEOUT)))
                    answers.append(RecordedAnswer({"body": body}, wording))
        except InvalidStatus as refusal:
            response = refusal.response
            body, wording = split(json.loads(bytes(response.body or b"null")))
            return [RecordedAnswer({"status": response.status_code, "body": body}, wording)]
        except ConnectionClosed as closing:
            frame = closing.rcvd
            reason = [frame.reason] if frame and frame.reason else []
            return [*answers, RecordedAnswer({"close": frame.code if frame else None}, reason)]
        return answers

    def infer(self, request: Any, *, metadata: Mapping[str, str] | None = None) -> RecordedAnswer:
        """Return the answer to a ``ModelInfer`` call."""
        return self.grpc_call("ModelInfer", request, metadata=metadata)

    def grpc_call(self, method: str, request: Any, *, metadata: Mapping[str, str] | None = None) -> RecordedAnswer:
        """Return the answer to a call of the service, by the method's name."""
        headers = {name.lower(): value for name, value in {**self.headers, **(metadata or {})}.items()}
        try:
            response = getattr(self._stub, method)(request, timeout=TIMEOUT, metadata=tuple(headers.items()))
        except grpc.RpcError as error:
            return _grpc_refusal(error)
        return RecordedAnswer({"code": "OK", **_grpc_body(response)}, [])

    def grpc_unknown(self, method: str) -> RecordedAnswer:
        """Return the answer to a call that the protocol's own definitions do not have."""
        call = self._channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        try:
            return RecordedAnswer({"code": "OK", "raw": call(b"", timeout=TIMEOUT).hex()}, [])
        except grpc.RpcError as error:
            return _grpc_refusal(error)


def http_answer(response: httpx.Response, *, prose: bool = False) -> RecordedAnswer:
    """Return what is recorded of an HTTP response: status, some headers, and its decoded body."""
    headers = {name: response.headers[name] for name in HEADERS if name in response.headers}
    if "retry-after" in response.headers:
        headers["retry-after"] = "..."  # depends on the pace of the machine
    body, wording = _http_body(response, prose=prose)
    return RecordedAnswer({"status": response.status_code, "headers": headers, "body": body}, wording)


def _http_body(response: httpx.Response, *, prose: bool) -> tuple[Any, list[str]]:
    kind = response.headers.get("content-type", "").split(";")[0]
    if kind == "application/json":
        return split(response.json(), prose=prose)
    if kind == "application/x-ndjson":
        return split([json.loads(line) for line in response.text.splitlines()])
    if "inference-header-content-length" in response.headers:
        length = int(response.headers["inference-header-content-length"])
        body, wording = split(json.loads(response.content[:length]))
        cursor = length
        for output in body["outputs"]:
            size = output.get("parameters", {}).get("binary_data_size", 0)
            output["hex"] = response.content[cursor : cursor + size].hex()
            cursor += size
        return body, wording
    return "(text)" if response.content else "", [response.text] if response.content else []


def _grpc_refusal(error: Any) -> RecordedAnswer:
    trailing = {name: value for name, value in error.trailing_metadata() or () if name.startswith("renorm-")}
    waits = any(name == "retry-after" for name, _ in error.trailing_metadata() or ())
    return RecordedAnswer(
        {"code": error.code().name, "trailing": trailing, "retry-after": waits}, [error.details() or ""]
    )


def _grpc_body(response: Any) -> dict[str, Any]:
    """Return the members of a message: of an inference its tensors, of others their fields as text."""
    if not isinstance(response, protocol.ModelInferResponse):
        return {"message": str(response)}
    message: Any = response
    raw = [content.hex() for content in message.raw_output_contents]
    outputs = [
        {
            "name": output.name,
            "datatype": output.datatype,
            "shape": list(output.shape),
            "data": raw[i] if raw else _typed_data(output.contents),
            "parameters": _grpc_parameters(output.parameters),
        }
        for i, output in enumerate(message.outputs)
    ]
    names = {"model": message.model_name, "version": message.model_version, "id": message.id}
    return {**names, "outputs": outputs, "parameters": _grpc_parameters(message.parameters)}


def _typed_data(contents: Any) -> dict[str, list[Any]]:
    return {
        descriptor.name: [value.hex() if isinstance(value, bytes) else value for value in values]
        for descriptor, values in contents.ListFields()
    }


def _grpc_parameters(parameters: Any) -> dict[str, Any]:
    return {
        name: [parameters[name].WhichOneof("parameter_choice"), getattr(parameters[name], kind) if kind else None]
        for name in sorted(parameters)
        for kind in [parameters[name].WhichOneof("parameter_choice")]
    }
