"""The descriptions that a server gives: states, strategies, the model, its interface and its metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from open_inference.grpc import protocol

from .doors import Doors
from .entries import Entry, RecordedAnswer
from .steps import MODEL

PATHS = (
    "/v1/streams",
    "/v1/streams/camera-1",
    "/v1/model",
    "/v1/strategies",
    "/v1/strategies/rotta",
    "/v1/strategies/unmix_tns+lame",
    "/healthz",
    "/readyz",
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    f"/v2/models/{MODEL}",
    f"/v2/models/{MODEL}/versions/1",
    f"/v2/models/{MODEL}/ready",
    f"/v2/models/{MODEL}/config",
    f"/v2/models/{MODEL}/stats",
    "/v2/models/stats",
)


def descriptions(doors: Doors) -> Iterator[Entry]:
    """Yield every description; texts of several words may be written anew."""
    for path in PATHS:
        yield Entry(f"GET {path}", "description", *doors.call("GET", path, prose=True))
    index = doors.call("POST", "/v2/repository/index", json={}, prose=True)
    yield Entry("repository index", "description", *index)
    yield Entry("interface", "description", {"paths": _interface(doors)})
    yield Entry("metrics", "description", {"names": _metric_names(doors)})
    for method, request in {
        "ServerLive": protocol.ServerLiveRequest(),
        "ServerReady": protocol.ServerReadyRequest(),
        "ServerMetadata": protocol.ServerMetadataRequest(),
        "ModelReady": protocol.ModelReadyRequest(name=MODEL),
        "ModelMetadata": protocol.ModelMetadataRequest(name=MODEL),
    }.items():
        answer: RecordedAnswer = doors.grpc_call(method, request)
        yield Entry(f"grpc {method}", "description", *answer)


def _interface(doors: Doors) -> dict[str, Any]:
    """Return parameters and statuses of every call in the OpenAPI document, by path and method."""
    document = doors.http.get("/openapi.json").json()
    return {
        f"{method} {path}": {
            "parameters": sorted(parameter["name"] for parameter in operation.get("parameters", [])),
            "statuses": sorted(operation["responses"]),
        }
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


def _metric_names(doors: Doors) -> list[str]:
    lines = doors.http.get("/metrics").text.splitlines()
    return sorted(line.removeprefix("# TYPE ") for line in lines if line.startswith("# TYPE "))
