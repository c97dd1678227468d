"""Openings of WebSockets that HTTP takes and the WebSocket library does not: answered, closed, a stop unharmed."""

from __future__ import annotations

import json

import pytest

from tests.app.http.connections.loopback import GET, run, serving, until

OPENING = (
    b"Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


@pytest.mark.parametrize(
    "opening",
    [
        pytest.param(b"POST / HTTP/1.1\r\n" + OPENING + b"Content-Length: 5\r\n\r\nabcde", id="post_with_a_body"),
        pytest.param(b"PUT / HTTP/1.1\r\n" + OPENING + b"\r\n", id="put"),
        pytest.param(b"GET / HTTP/1.1\r\n" + OPENING + b"Content-Length: 5\r\n\r\nabcde", id="get_with_a_body"),
        pytest.param(b"GET / HTTP/1.1\r\n" + OPENING + b"Cookie: " + b"a" * 9000 + b"\r\n\r\n", id="long_header"),
        pytest.param(b"GET / HTTP/1.1\r\n" + OPENING + b"x_\xc3: 1\r\n\r\n", id="odd_name_of_a_header"),
        pytest.param(b"GET / HTTP/1.1\r\n" + OPENING.replace(b": 13", b": 9") + b"\r\n", id="another_version"),
        pytest.param(b"GET / HTTP/1.1\r\n" + OPENING.replace(b"-Key", b"-Kay") + b"\r\n", id="no_key"),
    ],
)
def test_invalid_handshake_is_refused_and_closed(opening: bytes) -> None:
    async def refuse() -> None:
        async with serving() as place:
            client = await place.connect(opening)
            answered = await client.rest()
            assert answered.startswith(b"HTTP/1.1 4"), answered
            body = answered.partition(b"\r\n\r\n")[2]
            assert b"WebSocket" in body or json.loads(body)["code"] == "malformed_request"
            await until(lambda: len(place.door) == 0)
            assert not place.server.server_state.connections

    run(refuse)


def test_shutdown_during_a_refused_handshake_serves_other_requests() -> None:
    async def stop() -> None:
        async with serving() as place:
            place.app.gate.clear()
            other = await place.connect(GET)
            await until(lambda: len(place.server.server_state.tasks) == 1)
            await (await place.connect(b"POST / HTTP/1.1\r\n" + OPENING + b"\r\n")).answer()
            place.app.gate.set()
            await place.stop()
            assert (await other.answer())[0] == 200

    run(stop)
