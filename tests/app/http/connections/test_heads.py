"""Heads and the lines between parts of a body: bounded before they are parsed."""

from __future__ import annotations

import json
import logging

import pytest

from tests.app.http.connections.loopback import GET, run, serving

LARGE = b"a" * 40_000


def lines(count: int) -> bytes:
    return b"GET / HTTP/1.1\r\n" + b"".join(b"h%d: v\r\n" % i for i in range(count)) + b"\r\n"


CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"

REFUSED = {
    "one-value": (b"GET / HTTP/1.1\r\nx: " + LARGE * 50, 431),
    "one-name": (b"GET / HTTP/1.1\r\n" + LARGE * 50, 431),
    "path": (b"GET /" + LARGE * 50, 431),
    "method": (b"G" * 100_000, 400),
    "just-above": (b"GET / HTTP/1.1\r\nx: " + b"a" * 65_536 + b"\r\n\r\n", 431),
    "empty-lines": (b"\r\n" * 100_000, 431),
    "lines": (lines(101), 431),
    "second-of-a-piece": (GET + b"GET / HTTP/1.1\r\nx: " + b"a" * 70_000 + b"\r\n\r\n", 200),
    "million-lines": (lines(100_000), 431),
    "chunk-extension": (CHUNKED + b"1;x=" + LARGE * 50, 431),
    "chunk-size": (CHUNKED + b"0" * 2_000_000, 431),
    "chunk-size-too-large": (CHUNKED + b"f" * 17 + b"\r\n", 400),
    "chunk-size-no-number": (CHUNKED + b"zz\r\n", 400),
    "chunk-not-ended": (CHUNKED + b"1\r\nabc\r\n", 400),
    "trailer-lines": (CHUNKED + b"0\r\n" + lines(200)[16:], 431),
    "trailer-value": (CHUNKED + b"0\r\nx: " + LARGE * 50, 431),
    "two-lengths": (b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", 400),
    "length-and-chunks": (b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "length-no-number": (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
    "connect": (b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "no-http": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "http2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "bad-url": (b"GET http://[::1 HTTP/1.1\r\n\r\n", 400),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_large_or_malformed_head_is_answered_and_closed(name: str, caplog: pytest.LogCaptureFixture) -> None:
    sent, status = REFUSED[name]

    async def attack() -> None:
        async with serving(linger_seconds=0.5) as place:
            client = await place.connect(sent)
            got, headers, body = await client.answer()
            assert got == status, body
            if status != 200:
                assert headers["connection"] == "close"
                assert set(json.loads(body)) == {"error", "code"}
            assert await client.rest() in {b"", b"reset"} or status == 200
            assert place.door.bodies == 0

    with caplog.at_level(logging.WARNING):
        run(attack)
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "sent",
    [
        lines(100),
        b"GET / HTTP/1.1\r\nx: " + b"a" * 65_000 + b"\r\n\r\n",
        b"\r\n\r\n" + GET,
        CHUNKED + b"1;x=y\r\na\r\n0\r\nx: y\r\n\r\n",
        CHUNKED + b"1\r\na\r\n" * 30_000 + b"0\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 3000000\r\n\r\n" + b"a" * 3_000_000,
        b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        b"POST / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 3\r\n\r\nabc",
    ],
    ids=["hundred-lines", "nearly", "empty-lines", "extension", "small-chunks", "large-body", "h2c", "h2c-body"],
)
def test_head_within_the_bounds_is_answered_and_the_connection_goes_on(sent: bytes) -> None:
    async def ask() -> None:
        async with serving() as place:
            client = await place.connect(sent)
            assert (await client.answer())[0] == 200
            await client.send(sent)
            assert (await client.answer())[0] == 200

    run(ask)


def test_a_head_in_single_bytes_is_as_good_as_one_in_a_piece() -> None:
    async def ask() -> None:
        async with serving() as place:
            client = await place.connect()
            for byte in GET + GET:
                await client.send(bytes([byte]))
            assert (await client.answer())[0] == (await client.answer())[0] == 200

    run(ask)


def test_pipelined_requests_are_answered_in_order_and_their_number_is_bounded() -> None:
    async def ask() -> None:
        async with serving(pipelined=4) as place:
            few = b"".join(b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (i, b"a" * i) for i in range(4))
            client = await place.connect(few)
            assert [(await client.answer())[2] for _ in range(4)] == [b"0", b"1", b"2", b"3"]
            many = await place.connect(GET * 1000)
            answers = (await many.rest()).count(b"HTTP/1.1 200")
            assert 1 <= answers <= 5

    run(ask)


def test_a_body_behind_an_offer_of_http2_is_read() -> None:
    head = b"POST / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n"
    forms = [b"content-length: 3\r\n\r\nabc", b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"]

    async def ask() -> None:
        async with serving() as place:
            client = await place.connect()
            for form in forms * 2:
                await client.send(head + form)
                assert (await client.answer())[2] == b"3"

    run(ask)
