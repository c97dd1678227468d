"""Every door takes memory for what it holds, and gives all of it back however a call ends."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import zlib
from typing import Any

import httpx
import numpy as np
import pytest

from app.errors import DeadlineError, ImageError
from app.types import Call, Prediction
from tests.app.fakes import Client, FakeEngine, refusal
from tests.app.http.cameras import until

FILE = bytes(range(256)) * 40
RAW = np.zeros((2, 3, 32, 32), np.float32).tobytes()
V2 = "/v2/models/fake-net/infer"
HEAD = {"Inference-Header-Content-Length": "0"}


class Seeing(FakeEngine):
    """Notes what the server holds while it answers."""

    def watch(self, client: Client) -> None:
        self.ledger, self.seen = client.state.memory, list[int]()

    async def predict(self, call: Call) -> Prediction:
        self.seen.append(self.ledger.total)
        return await super().predict(call)


class Doors(Client):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.engine: Seeing = Seeing(self.settings)
        self.engine.watch(self)
        self.ledger = self.state.memory


def tensor(values: int = 2 * 3 * 32 * 32) -> dict[str, Any]:
    data = [0.5] * values
    return {"inputs": [{"name": "input", "datatype": "FP32", "shape": [2, 3, 32, 32], "data": data}]}


def binary() -> tuple[bytes, dict[str, str]]:
    one = {"name": "input", "datatype": "FP32", "shape": [2, 3, 32, 32], "parameters": {"binary_data_size": len(RAW)}}
    head = json.dumps({"inputs": [one]}).encode()
    return head + RAW, {"Inference-Header-Content-Length": str(len(head))}


def encoded(body: bytes, headers: dict[str, str], coding: str) -> dict[str, Any]:
    folded = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
    return {"url": V2, "content": folded, "headers": {**headers, "Content-Encoding": coding}}


IMAGES = {"images": [base64.b64encode(FILE).decode()] * 3}
CALLS: dict[str, tuple[dict[str, Any], int]] = {
    "image": ({"url": "/v1/predict", "content": FILE, "headers": {"Content-Type": "image/png"}}, len(FILE)),
    "form": ({"url": "/v1/predict", "files": [("files", ("a.png", FILE))] * 3}, 3 * len(FILE)),
    "json": ({"url": "/v1/predict", "json": IMAGES}, 3 * len(FILE)),
    "lines": ({"url": "/v1/predict/stream?chunk=2", "json": IMAGES}, 3 * len(FILE)),
    "v2 json": ({"url": V2, "json": tensor()}, len(RAW)),
    "v2 binary": ({"url": V2, "content": binary()[0], "headers": binary()[1]}, len(RAW)),
    "v2 file": ({"url": V2, "content": FILE, "headers": HEAD}, len(FILE)),
    "v2 gzip": (encoded(*binary(), "gzip"), len(RAW)),
    "v2 deflate": (encoded(*binary(), "deflate"), len(RAW)),
}
each_call = pytest.mark.parametrize("name", CALLS)


@each_call
def test_memory_of_waiting_requests_is_returned(name: str) -> None:
    client, (call, size) = Doors(), CALLS[name]
    assert client.post(**call).status_code == 200
    assert set(client.engine.seen) == {size}
    assert client.ledger.total == 0


@each_call
@pytest.mark.parametrize(
    "failure", [ImageError("no image"), DeadlineError("too late"), RuntimeError("ours")], ids=["image", "late", "ours"]
)
def test_memory_is_returned_after_a_failure(name: str, failure: Exception) -> None:
    client = Doors()
    client.engine.failure = failure
    assert client.post(**CALLS[name][0]).status_code in (400, 422, 500, 504)
    assert client.ledger.total == 0


@each_call
def test_request_above_the_memory_share_is_refused(name: str) -> None:
    client, (call, size) = Doors(max_memory_bytes=4 * (size_of(name) - 1)), CALLS[name]
    said = refusal(client.post(**call), 413, "too_large", "body")
    assert "RENORM_MAX_MEMORY_BYTES" in said
    assert size
    assert client.engine.calls == []
    assert (client.ledger.total, client.ledger.refused["connection"]) == (0, 1)


def size_of(name: str) -> int:
    return CALLS[name][1]


@each_call
def test_client_is_told_to_retry_while_others_hold_all_memory(name: str) -> None:
    client = Doors()
    with client.ledger.open("bodies") as others:
        others.note(client.ledger.capacity - 10)
        response = client.post(**CALLS[name][0])
        refusal(response, 503, "busy")
        assert int(response.headers["Retry-After"]) >= 1
        assert client.engine.calls == []
        assert client.ledger.total == others.held
    assert client.post(**CALLS[name][0]).status_code == 200


def test_a_body_that_declares_much_and_does_not_come_holds_nothing() -> None:
    client = Doors()

    async def scene() -> None:
        never = asyncio.Event()

        async def receive() -> Any:
            await never.wait()

        scope = scope_of("/v1/predict", {"content-length": "90000000", "content-type": "image/png"})
        waiting = [asyncio.ensure_future(client.app(dict(scope), receive, ignored)) for _ in range(20)]
        for _ in range(20):
            await asyncio.sleep(0)
        assert client.ledger.total == 0
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=client.app), base_url="http://localhost:8000"
        ) as http:
            assert (await http.post(**CALLS["image"][0])).status_code == 200
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    opened(client, scene)
    assert client.ledger.total == 0


@pytest.mark.parametrize("ending", ["disconnect", "cancel"])
def test_a_body_that_stays_half_sent_is_held_until_its_client_goes(ending: str) -> None:
    client = Doors()

    async def scene() -> None:
        messages: asyncio.Queue[Any] = asyncio.Queue()
        scope = scope_of("/v1/predict", {"content-type": "image/png"})
        task = asyncio.ensure_future(client.app(scope, messages.get, ignored))
        for part in (b"x" * 1000, b"y" * 500):
            messages.put_nowait({"type": "http.request", "body": part, "more_body": True})
        await until(lambda: client.ledger.total == 1500)
        assert client.ledger.held == {"bodies": 1500}
        if ending == "cancel":
            task.cancel()
        else:
            messages.put_nowait({"type": "http.disconnect"})
        await asyncio.wait([task])

    opened(client, scene)
    assert client.ledger.total == 0
    assert client.engine.calls == []


class Waiting(Seeing):
    """Answers nobody before its gate opens."""

    gate: asyncio.Event

    async def predict(self, call: Call) -> Prediction:
        await self.gate.wait()
        return await super().predict(call)


def test_of_many_bodies_that_wait_those_within_the_budget_are_answered_and_the_others_told_to_come_later() -> None:
    client = Doors(max_memory_bytes=20 * 10_240)  # of which half is for bodies
    client.engine = Waiting(client.settings)
    client.engine.watch(client)

    async def scene() -> list[int]:
        client.engine.gate = asyncio.Event()  # type: ignore[attr-defined]
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=client.app), base_url="http://localhost:8000"
        ) as http:
            calls = [asyncio.ensure_future(http.post(**CALLS["image"][0])) for _ in range(50)]
            await until(lambda: sum(call.done() for call in calls) == 40)
            assert client.ledger.total == 10 * len(FILE) == client.ledger.capacity
            client.engine.gate.set()  # type: ignore[attr-defined]
            return [response.status_code for response in await asyncio.gather(*calls)]

    statuses = opened(client, scene)
    assert (statuses.count(200), statuses.count(503)) == (10, 40)
    assert client.ledger.total == 0


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_memory_of_a_decompressed_body_is_counted_as_it_grows(coding: str) -> None:
    client = Doors(max_memory_bytes=40_000_000)  # a connection may hold 10 MB, and a body may unfold to 200 MB
    call = encoded(bytes(50_000_000), HEAD, coding)
    assert len(call["content"]) < 60_000
    assert "limit of one connection is 10000000" in refusal(client.post(**call), 413, "too_large", "body")
    assert client.ledger.total == 0


def test_json_that_parses_to_too_much_memory_is_refused_before_parsing() -> None:
    client = Doors(max_memory_bytes=8_000_000)
    content = b'{"inputs":[' + b",".join([b"[]"] * 50_000) + b"]}"
    refusal(client.post(V2, content=content), 413, "too_large", "body")
    assert client.ledger.total == 0


async def ignored(_: Any) -> None:
    pass


def scope_of(path: str, headers: dict[str, str]) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"localhost"), *((name.encode(), value.encode()) for name, value in headers.items())],
    }


def opened(client: Client, scene: Any) -> Any:
    async def run() -> Any:
        async with client.app.router.lifespan_context(client.app):
            return await asyncio.wait_for(scene(), 60)

    return asyncio.run(run())
