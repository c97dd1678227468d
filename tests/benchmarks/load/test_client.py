"""The HTTP client of the load generator."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.load.client import Line, Reply
from tests.benchmarks.load.fake_server import fake_server, ok

REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"


async def asked(port: int, times: int = 1) -> list[Reply]:
    line = Line("127.0.0.1", port)
    try:
        return [await line.ask(REQUEST) for _ in range(times)]
    finally:
        line.close()


def test_requests_of_a_connection_get_their_own_answers() -> None:
    seen: list[bytes] = []

    def answer(body: bytes) -> bytes:
        seen.append(body)
        return ok(str(len(seen)).encode(), "200 OK" if len(seen) < 3 else "503 Busy")

    with fake_server(answer) as port:
        replies = asyncio.run(asked(port, 3))
    assert replies == [Reply(200, b"1"), Reply(200, b"2"), Reply(503, b"3")]
    assert seen == [b"hi"] * 3


def test_a_body_in_chunks_is_one_body() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    with fake_server(lambda _: chunked) as port:
        assert asyncio.run(asked(port, 2)) == [Reply(200, b"abc")] * 2


def test_a_connection_that_the_server_ends_is_opened_again() -> None:
    with fake_server(lambda _: ok(b"", more="Connection: close\r\n")) as port:
        assert asyncio.run(asked(port, 3)) == [Reply(200, b"")] * 3


@pytest.mark.parametrize(("answer", "said"), [(None, "hung up"), (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP")])
def test_no_answer_is_an_error_and_not_a_wait(answer: bytes | None, said: str) -> None:
    with fake_server(lambda _: answer) as port, pytest.raises(ConnectionError, match=said):
        asyncio.run(asked(port))


def test_missing_server_is_an_error() -> None:
    with fake_server(lambda _: b"") as port:
        pass
    with pytest.raises(OSError, match="Connect call failed"):
        asyncio.run(asked(port))
