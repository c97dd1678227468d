"""A camera in process: one live connection, over ASGI messages as a server hands them on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Self

import pytest

from app.types import Call, Prediction
from tests.app.fakes import Client, FakeEngine

PATH = "/v1/streams/camera-7/live"


class Held(FakeEngine):
    """Answers while its gate is open; counts the calls that were called off."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.gate, self.called_off = asyncio.Event(), 0

    async def predict(self, call: Call) -> Prediction:
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.called_off += 1
            raise
        return await super().predict(call)


class Camera:
    """One connection: ``got`` is what the server has sent, ``sent`` what it has yet to receive."""

    def __init__(
        self, client: Client, target: str, *, denial: bool = True, headers: dict[str, str] | None = None
    ) -> None:
        path, _, query = target.partition("?")
        self.app = client.app
        self.scope = {
            "type": "websocket",
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}} if denial else {},
        }
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.got: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.reading = asyncio.Event()
        self.reading.set()
        self.broken: Exception | None = None

    async def __aenter__(self) -> Self:
        self.sent.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.ensure_future(self.app(self.scope, self.sent.get, self._take))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.vanish()
        await asyncio.wait_for(self.task, 5)

    async def _take(self, message: Any) -> None:
        await self.reading.wait()
        if self.broken is not None:
            raise self.broken
        self.got.put_nowait(message)

    def send(self, *frames: bytes | str) -> None:
        for frame in frames:
            kind = "bytes" if isinstance(frame, bytes) else "text"
            self.sent.put_nowait({"type": "websocket.receive", kind: frame})

    def vanish(self, code: int = 1006) -> None:
        self.sent.put_nowait({"type": "websocket.disconnect", "code": code})

    async def message(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.got.get(), 5)

    async def opened(self) -> Self:
        assert (await self.message())["type"] == "websocket.accept"
        return self

    async def answers(self, count: int) -> list[dict[str, Any]]:
        return [json.loads((await self.message())["text"]) for _ in range(count)]


def play(scene: Callable[[Client], Awaitable[None]], **settings: Any) -> Client:
    """Run a scene against an open application."""
    client = Client(**settings)

    async def run() -> None:
        async with client.app.router.lifespan_context(client.app):
            await scene(client)

    asyncio.run(run())
    return client


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that comes by itself; a test whose time is over ends here."""
    for _ in range(20_000):
        if holds():
            return
        await asyncio.sleep(0.001)
    pytest.fail("it did not come")


async def settled() -> None:
    """Everything that can happen without more from outside has happened."""
    for _ in range(50):
        await asyncio.sleep(0)
