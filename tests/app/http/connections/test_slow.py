"""Clients that are slow or silent, and how many connections and bodies there may be."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from tests.app.http.connections.loopback import GET, run, serving, until

SHORT: dict[str, Any] = {"head_seconds": 0.2, "body_seconds": 0.2, "linger_seconds": 0.1}
POST = b"POST / HTTP/1.1\r\ncontent-length: 100000\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
WEBSOCKET = (
    b"GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

SLOW = {
    "silent": (b"", 0),
    "half-a-line": (b"GET / HT", 408),
    "half-a-head": (b"GET / HTTP/1.1\r\nhost: x\r\n", 408),
    "empty-line": (b"\r\n", 408),
    "no-body": (POST, 408),
    "half-a-body": (POST + b"a" * 1000, 408),
    "half-a-chunk": (CHUNKED + b"5\r\nab", 408),
    "no-last-chunk": (CHUNKED + b"1\r\na\r\n", 408),
    "half-a-trailer": (CHUNKED + b"1\r\na\r\n0\r\nx: y", 408),
    "body-of-nothing": (CHUNKED + b"1;x=y", 408),
    "half-a-second-head": (GET + b"GET / HT", 200),
}


@pytest.mark.parametrize("name", list(SLOW))
def test_stalled_request_is_refused_and_the_application_is_told(name: str, caplog: pytest.LogCaptureFixture) -> None:
    sent, status = SLOW[name]

    async def wait() -> None:
        async with serving(**SHORT) as place:
            client = await place.connect(sent)
            if status:
                got, _, body = await client.answer()
                assert got == status
                if status == 200:
                    got, _, body = await client.answer()
                assert (got, json.loads(body)["code"]) == (408, "request_timeout")
            assert await client.rest() == b""
            await until(lambda: len(place.door) == 0)
            assert place.app.gone == (b"POST" in sent)
            assert (place.door.bodies, place.server.server_state.connections) == (0, set())

    with caplog.at_level(logging.WARNING):
        run(wait)
    assert "Traceback" not in caplog.text
    assert "refused" in caplog.text


def test_a_head_that_trickles_is_refused_though_there_is_always_something() -> None:
    async def trickle() -> None:
        async with serving(**SHORT) as place:
            client = await place.connect(b"GET / HTTP/1.1\r\nx: ")
            answer = asyncio.ensure_future(client.answer())
            while not answer.done():
                await client.send(b"a")
                await asyncio.sleep(0.01)
            assert answer.result()[0] == 408

    run(trickle)


@pytest.mark.parametrize(("step", "status"), [(1, 200), (1_000_000, 408)], ids=["fast-enough", "too-slow"])
def test_a_body_that_brings_enough_in_its_time_may_take_as_long_as_it_likes(step: int, status: int) -> None:
    async def trickle() -> None:
        async with serving(head_seconds=0.2, body_seconds=0.2, step_bytes=step) as place:
            client = await place.connect(b"POST / HTTP/1.1\r\ncontent-length: 100\r\n\r\n")
            for _ in range(100):
                await client.send(b"a")
                await asyncio.sleep(0.01)
            assert (await client.answer())[0] == status

    run(trickle)


def test_slow_application_is_not_held_against_the_client() -> None:
    async def wait() -> None:
        async with serving(**SHORT) as place:
            place.app.gate.clear()
            client = await place.connect(GET)
            expects = await place.connect(b"POST / HTTP/1.1\r\ncontent-length: 1\r\nexpect: 100-continue\r\n\r\n")
            assert (await expects.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
            await expects.send(b"a")
            await asyncio.sleep(0.5)
            place.app.gate.set()
            assert (await client.answer())[0] == (await expects.answer())[0] == 200

    run(wait)


def test_an_answer_that_nobody_takes_ends_the_connection() -> None:
    async def ignore() -> None:
        async with serving(**SHORT) as place:
            client = await place.connect(b"GET /50000000 HTTP/1.1\r\n\r\n")
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await until(lambda: len(place.door) == 1)
            await until(lambda: len(place.door) == 0)
            assert place.door.bodies == 0

    run(ignore)


def test_connections_of_an_address_and_in_all_are_bounded_and_counted_through_every_end() -> None:
    async def crowd(**limits: int) -> None:
        async with serving(**limits, head_seconds=60.0, linger_seconds=5.0) as place:
            kept = [await place.connect(b"G") for _ in range(3)]
            await until(lambda: len(place.door) == 3)
            refused = await place.connect(GET)
            status, headers, body = await refused.answer()
            assert (status, headers["retry-after"], json.loads(body)["code"]) == (503, "1", "busy")
            assert await refused.rest() == b""
            await refused.close()
            await kept.pop().close()
            await until(lambda: len(place.door) == 2 and place.door.refused == 0)
            live = await place.connect(WEBSOCKET)
            assert (await live.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
            assert (await (await place.connect(GET)).answer())[0] == 503
            await live.close()
            await until(lambda: len(place.door) == 2)
            assert (await (await place.connect(GET)).answer())[0] == 200

    run(lambda: crowd(connections=3, per_address=0))
    run(lambda: crowd(connections=100, per_address=3))


def test_an_idle_connection_makes_room_for_a_new_one() -> None:
    async def crowd() -> None:
        async with serving(connections=2) as place:
            first, second = [await place.connect(GET) for _ in range(2)]
            for client in (first, second):
                assert (await client.answer())[0] == 200
            third = await place.connect(GET)
            assert (await third.answer())[0] == 200
            assert await first.rest() == b""
            await second.send(GET)
            assert (await second.answer())[0] == 200

    run(crowd)


def test_descriptors_never_run_out() -> None:
    async def crowd() -> None:
        async with serving(descriptors=17) as place:
            assert (await (await place.connect(GET)).answer())[0] == 503

    run(crowd)


def test_bodies_in_flight_are_bounded() -> None:
    async def crowd() -> None:
        async with serving(bodies=2, linger_seconds=0.1) as place:
            kept = [await place.connect(POST) for _ in range(2)]
            await until(lambda: place.door.bodies == 2)
            assert (await (await place.connect(POST)).answer())[0] == 503
            assert (await (await place.connect(GET)).answer())[0] == 200, "it has no body that is on its way"
            await kept[0].send(b"a" * 100_000)
            assert (await kept[0].answer())[0] == 200
            await kept[1].close()
            await until(lambda: place.door.bodies == 0)

    run(crowd)


def test_lines_of_the_log_are_few_and_tell_how_many_they_stand_for(caplog: pytest.LogCaptureFixture) -> None:
    async def flood() -> None:
        async with serving(head_seconds=0.1, linger_seconds=0.1) as place:
            for client in [await place.connect(b"G") for _ in range(50)]:
                assert (await client.answer())[0] == 408

    with caplog.at_level(logging.WARNING):
        run(flood)
    said = [record.getMessage() for record in caplog.records if "heads that arrived late" in record.getMessage()]
    assert said == ["refused heads that arrived late (bounded by head_seconds): from 127.0.0.1"]
