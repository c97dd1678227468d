"""A camera that sends faster than it is answered, over a real connection: what the server holds stays within bounds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from app.cli.server import _config
from app.cli.sockets import listen
from app.http.connections import live_protocol
from app.http.connections.door import Door
from app.http.connections.limits import limits_of
from app.http.connections.live_protocol import FREE, AccountedProtocol
from app.resources.memory import Ledger
from tests.app.fakes import Client
from tests.app.http.cameras import PATH, Held, until

FRAME = 400_000
SHARE = 4 * FRAME


class Server(NamedTuple):
    client: Client
    url: str
    connections: set[Any]  # the protocol objects

    @property
    def ledger(self) -> Ledger:
        return self.client.state.memory

    def live(self, query: str = "queue=256") -> Any:
        return connect(f"{self.url}{PATH}?{query}", compression=None, close_timeout=0.1)

    async def held(self, amount: int) -> None:
        """Wait until the server holds just that much."""
        await until(lambda: self.ledger.total == amount)

    async def still(self, above: int = -1) -> int:
        """The bytes that the server holds, more than ``above``, when nothing changes any more."""
        await until(lambda: self.ledger.total > above)
        before = -1
        while before != self.ledger.total:
            before = self.ledger.total
            await asyncio.sleep(0.1)
        return before


@asynccontextmanager
async def running(budget: int = 4 * SHARE, **settings: Any) -> AsyncIterator[Server]:
    client = Client(max_memory_bytes=budget, max_image_bytes=FRAME, **settings)
    client.engine = Held(client.settings)
    sockets = listen("127.0.0.1", 0)
    server = uvicorn.Server(_config(client.settings, client.app, client.state.memory, Door(limits_of(client.settings))))
    task = asyncio.ensure_future(server.serve(sockets))
    await until(lambda: server.started)
    try:
        yield Server(client, f"ws://127.0.0.1:{sockets[0].getsockname()[1]}", server.server_state.connections)
    finally:
        server.should_exit = True
        await task


def play(scene: Callable[[Server], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        async with running(**settings) as server:
            await scene(server)

    asyncio.run(asyncio.wait_for(run(), 60))


async def answers(camera: ClientConnection, count: int) -> list[dict[str, Any]]:
    return [json.loads(await camera.recv()) for _ in range(count)]


@pytest.mark.parametrize("parts", [1, 7], ids=["whole", "in parts"])
def test_sixty_frames_wait_in_the_clients_network_and_all_are_answered(parts: int) -> None:
    async def scene(server: Server) -> None:
        async with server.live() as camera:
            sending = asyncio.ensure_future(send_all(camera, parts))
            held = await server.still(above=0)
            assert FRAME < held <= SHARE, "some wait here, and not more than one connection may hold"
            assert server.ledger.held == {"frames": held}
            server.client.engine.gate.set()  # type: ignore[attr-defined]
            got = await answers(camera, 60)
            await sending
            assert [answer["frame"] for answer in got] == list(range(60))
            assert not any("code" in answer for answer in got)
            await server.held(0)
        assert [len(call.images[0]) for call in server.client.engine.calls] == [FRAME] * 60

    play(scene)


async def send_all(camera: ClientConnection, parts: int) -> None:
    size = -(-FRAME // parts)
    for _ in range(60):
        frame = bytes(FRAME)
        await camera.send(frame if parts == 1 else [frame[i : i + size] for i in range(0, FRAME, size)])


def test_many_cameras_that_wait_are_all_answered_within_the_budget() -> None:
    async def scene(server: Server) -> None:
        most = 0
        noting = asyncio.get_running_loop()

        def note() -> None:
            nonlocal most
            most = max(most, server.ledger.total)
            noting.call_later(0.001, note)

        note()

        async def film() -> list[dict[str, Any]]:
            async with server.live() as camera:
                sending = asyncio.ensure_future(send_all(camera, 1))
                got = await answers(camera, 60)
                await sending
                return got

        filming = [asyncio.ensure_future(film()) for _ in range(6)]
        await server.still(above=SHARE)
        server.client.engine.gate.set()  # type: ignore[attr-defined]
        for got in await asyncio.gather(*filming):
            assert [answer["frame"] for answer in got] == list(range(60))
            assert not any("code" in answer for answer in got)
        assert most <= server.ledger.capacity
        await server.held(0)

    play(scene, budget=16 * SHARE)


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_latest"])
def test_dropped_frames_hold_no_memory(policy: str) -> None:
    async def scene(server: Server) -> None:
        async with server.live(f"queue=256&policy={policy}") as camera:
            await send_all(camera, 1)
            held = await server.still(above=0)
            assert FRAME < held <= SHARE
            server.client.engine.gate.set()  # type: ignore[attr-defined]
            await until(lambda: len(server.client.engine.calls) == held // FRAME)
            await server.held(0)
            await camera.send(b"last")
            got = await answers(camera, held // FRAME + 1)
            assert got[-1]["frame"] == 60
            assert got[-1]["dropped"] == 60 - held // FRAME

    play(scene)


def test_a_client_that_goes_gives_all_of_it_back() -> None:
    async def scene(server: Server) -> None:
        async with server.live() as camera:
            sending = asyncio.ensure_future(send_all(camera, 1))
            await server.still(above=0)
            sending.cancel()
            camera.transport.abort()
        server.client.engine.gate.set()  # type: ignore[attr-defined]
        await server.held(0)

    play(scene)


def test_a_frame_without_memory_is_answered_as_busy_and_the_connection_goes_on() -> None:
    async def scene(server: Server) -> None:
        server.client.engine.gate.set()  # type: ignore[attr-defined]
        async with server.live() as camera:
            with server.ledger.open("bodies") as others:
                others.note(server.ledger.capacity - 10)
                await camera.send(b"x" * 1000)
                (refused,) = await answers(camera, 1)
            assert (refused["code"], refused["where"], refused["frame"]) == ("busy", "frame", 0)
            await camera.send(b"y" * 1000)
            (answered,) = await answers(camera, 1)
        assert answered["frame"] == 1
        assert "code" not in answered
        await server.held(0)

    play(scene)


def begun(size: int) -> bytes:
    """The head of a frame of that size, with a mask of zeros."""
    return b"\x82\xff" + size.to_bytes(8, "big") + bytes(4)


def test_frames_on_their_way_are_counted_and_end_where_no_room_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_protocol, "PATIENCE_S", 0.0)

    async def scene(server: Server) -> None:
        async with server.live() as camera:
            camera.transport.write(begun(FRAME) + bytes(FRAME - 10))
            counted = await server.still(above=0)
            assert FRAME - 1000 - FREE < counted <= FRAME - FREE
            others = server.ledger.open("bodies")
            others.note(server.ledger.capacity)
            async with server.live() as second:
                second.transport.write(begun(FRAME) + bytes(FRAME - 10))
                with pytest.raises(ConnectionClosed) as closed:
                    await second.recv()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1013
                assert "memory" in closed.value.rcvd.reason
            await server.held(others.held + counted)
            others.close()
        await server.held(0)

    play(scene)


def test_many_empty_parts_of_a_message_take_no_memory() -> None:
    async def scene(server: Server) -> None:
        server.client.engine.gate.set()  # type: ignore[attr-defined]
        async with server.live() as camera:
            camera.transport.write(b"\x02\x81" + bytes(4) + b"a" + b"\x00\x80\x00\x00\x00\x00" * 20_000)
            await server.still()
            (protocol,) = server.connections
            assert isinstance(protocol, AccountedProtocol)
            assert len(protocol.frames) + len(protocol._joined) <= 2
            camera.transport.write(b"\x80\x81" + bytes(4) + b"b")
            (answer,) = await answers(camera, 1)
        assert answer["frame"] == 0
        assert server.client.engine.calls[0].images == [b"ab"]

    play(scene)


def test_a_frame_that_came_with_the_end_of_its_connection_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(server: Server) -> None:
        async with server.live():
            (protocol,) = server.connections
            await asyncio.sleep(0.05)  # the door waits for a frame
            protocol.transport.abort()
            protocol.data_received(b"\x82\x81\0\0\0\0x")
            await until(lambda: not server.connections)
            await server.held(0)

    with caplog.at_level("ERROR"):
        play(scene)
    assert [record.getMessage() for record in caplog.records] == []
