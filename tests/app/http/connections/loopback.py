"""A small application behind real sockets of this machine, with bounds that tests choose."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import uvicorn

from app.http.connections.connection import Connection
from app.http.connections.door import Door
from app.http.connections.limits import ConnectionLimits
from app.http.connections.live import counted

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
GUARD_S = 30.0


class Small:
    """Answers a request with the number of bytes of its body, and says which bodies were never complete."""

    def __init__(self) -> None:
        self.gone = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (await receive())["type"] != "websocket.disconnect":
                pass
            return
        length, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone += 1
                return
            length, more = length + len(message["body"]), message["more_body"]
        await self.gate.wait()
        body = b"x" * int(scope["path"][1:] or 0) or str(length).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Place:
    """A running server: its address, its counts, its application."""

    def __init__(self, server: uvicorn.Server, door: Door, app: Small, bound: socket.socket) -> None:
        self.server, self.door, self.app, self.port = server, door, app, bound.getsockname()[1]
        self._bound: socket.socket | None = bound
        self.clients: list[Client] = []

    async def connect(self, sent: bytes = b"") -> Client:
        """A new connection on which that has been sent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        client = Client(reader, writer)
        self.clients.append(client)
        await client.send(sent)
        return client

    async def stop(self) -> None:
        """As at SIGTERM."""
        bound, self._bound = self._bound, None
        if bound is not None:
            await self.server.shutdown([bound])


class Client:
    """One end of a connection, without a mind of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        """Send; also where nobody listens any more."""
        with suppress(ConnectionError):
            self.writer.write(data)
            await asyncio.wait_for(self.writer.drain(), GUARD_S)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next answer."""
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), GUARD_S)).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, body

    async def rest(self) -> bytes:
        """What comes until the server closes."""
        try:
            return await asyncio.wait_for(self.reader.read(), GUARD_S)
        except ConnectionError:
            return b"reset"

    async def close(self) -> None:
        """Close it."""
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it on the event loop that `renorm serve` has."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test())


@asynccontextmanager
async def serving(drain_s: int = 5, **limits: Any) -> AsyncIterator[Place]:
    """The application behind a free port of this machine; then the server is told to stop."""
    door, app = Door(ConnectionLimits(**limits)), Small()
    config = uvicorn.Config(
        app,
        http=partial(Connection, door=door),  # type: ignore[arg-type]
        ws=counted(door),
        lifespan="off",
        log_config=None,
        timeout_keep_alive=door.limits.keep_alive_seconds,  # type: ignore[arg-type]
        timeout_graceful_shutdown=drain_s,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    bound = socket.create_server(("127.0.0.1", 0))
    await server.startup([bound])
    await server.on_tick(0)
    place = Place(server, door, app, bound)
    try:
        yield place
    finally:
        for client in place.clients:
            await client.close()
        await place.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    end = asyncio.get_running_loop().time() + GUARD_S
    while not condition():
        assert asyncio.get_running_loop().time() < end, "it did not come to that"
        await asyncio.sleep(0.005)
