"""One error through every door: each gives the same code and text, and names the image in the client's words."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import pytest

from adapters import ParameterError, UnknownStrategyError
from app import errors
from app.error_table import INTERNAL, describe_error
from app.http.connections import refusals
from app.http.connections.refusals import Refusal
from app.http.responses.openapi import _ERRORS
from tests.app.fakes import Client
from tests.app.http.cameras import PATH, Camera
from tests.app.rpc.doors import MODEL, PIXELS, ask, refused

ERRORS: list[Callable[[], Exception]] = [
    lambda: errors.ImageError("no image", hint="send one", image=1),
    lambda: errors.TooLargeError("too much to learn", location=errors.IMAGES),
    lambda: errors.TooExpensiveError("the image takes long", image=0),
    lambda: errors.FieldError("wrong", location="top_k"),
    lambda: errors.UnanswerableError("not finite"),
    lambda: errors.BusyError("full", retry_after_s=2.5),
    lambda: errors.StreamBusyError("full"),
    lambda: errors.DeadlineError("late"),
    lambda: errors.EngineClosedError("closing", hint="wait"),
    lambda: errors.AccessError("not yours"),
    lambda: UnknownStrategyError("no such strategy"),
    lambda: ParameterError("momentum must be in 0 to 1"),
    lambda: RuntimeError("a secret"),
]
FILES = [("files", (f"{i}.png", b"x")) for i in range(2)]


class Seen(NamedTuple):
    """What a client sees of an error: ``retry`` is the Retry-After, and `images` the door's word for the images."""

    code: str
    text: str
    where: str
    retry: str | None
    images: str


def over_http(images: str, path: str, **body: Any) -> Callable[[Exception], Seen]:
    def see(error: Exception) -> Seen:
        client = Client()
        client.engine.failure = error
        response = client.post(path, **body)
        members = response.json()
        retry = response.headers.get("retry-after")
        return Seen(members["code"], members["error"], members.get("where", ""), retry, images)

    return see


def over_websocket(error: Exception) -> Seen:
    async def scene() -> dict[str, Any]:
        client = Client()
        async with client.app.router.lifespan_context(client.app), Camera(client, PATH) as camera:
            await camera.opened()
            client.engine.failure = error
            camera.send(b"x")
            (answer,) = await camera.answers(1)
            return answer

    members = asyncio.run(scene())
    return Seen(members["code"], members["error"], members.get("where", ""), None, "frame")


def over_grpc(error: Exception) -> Seen:
    client = Client(grpc_port=0)
    client.engine.failure = error
    _, text, about = refused(client, "ModelInfer", ask())
    return Seen(
        about["renorm-code"], text, about.get("renorm-where", ""), about.get("retry-after"), "inputs[0].contents[{}]"
    )


TENSOR = {"name": "i", "datatype": "UINT8", "shape": list(PIXELS.shape), "data": PIXELS.ravel().tolist()}
DOORS: dict[str, Callable[[Exception], Seen]] = {
    "form": over_http("files[{}]", "/v1/predict", files=FILES),
    "JSON": over_http("images[{}]", "/v1/predict", json={"images": [base64.b64encode(b"x").decode()] * 2}),
    "one image": over_http("body", "/v1/predict", content=b"x"),
    "lines": over_http("files[{}]", "/v1/predict/stream", files=FILES),
    "OIP": over_http("inputs[0].data[{}]", f"/v2/models/{MODEL}/infer", json={"inputs": [TENSOR]}),
    "WebSocket": over_websocket,
    "gRPC": over_grpc,
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("make", ERRORS, ids=lambda make: type(make()).__name__)
def test_an_error_is_the_same_through_every_door(make: Callable[[], Exception], door: str) -> None:
    seen, error = DOORS[door](make()), make()
    with suppress(type(error)), errors.locate_images(seen.images):
        raise error
    info = describe_error(error)
    assert (seen.code, seen.text, seen.where) == (info.code, info.text, info.location)
    if door != "WebSocket":
        assert seen.retry == (str(info.retry_after) if info.retry_after else None)


def test_internal_errors_leak_nothing() -> None:
    assert {door(ValueError("a secret"))[:3] for door in DOORS.values()} == {("internal", INTERNAL.text, "")}


def test_the_documented_errors_are_those_of_the_table() -> None:
    statuses = {status: describe_error(error).status for status, error in _ERRORS.items()}
    assert statuses == {**{status: status for status in statuses}, 400: 422}  # which the protocol's paths call 400


REFUSALS = {name: value for name, value in vars(refusals).items() if isinstance(value, Refusal)}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refused_connection_gets_the_json_of_every_error(name: str) -> None:
    refusal = REFUSALS[name]
    head, _, body = refusal.to_http([(b"server", b"s")]).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert first.startswith(f"HTTP/1.1 {refusal.info.status} ")
    assert json.loads(body) == refusal.info.members()
    assert (headers["content-length"], headers["connection"]) == (str(len(body)), "close")
    assert headers.get("retry-after") == ("1" if refusal.info.status == 503 else None)
