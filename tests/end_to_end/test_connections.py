"""The real command against clients that send too much, too little, or nothing."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

import httpx

from tests.served import served

HALF_A_BODY = (
    b"POST /v1/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\ncontent-length: 1000\r\n\r\nabc"
)


def connected(url: str, stack: ExitStack) -> socket.socket:
    host, _, port = url.rpartition("/")[2].rpartition(":")
    return stack.enter_context(socket.create_connection((host, int(port)), timeout=30))


def test_a_large_head_is_refused_before_it_is_parsed_and_says_so_in_the_log() -> None:
    with served(said=("too large request heads (bounded by max_head_bytes)",)) as server, ExitStack() as stack:
        client = connected(server.url, stack)
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 1_000_000)
        assert client.recv(12) == b"HTTP/1.1 431"
        assert httpx.get(f"{server.url}/healthz").headers["keep-alive"] == "timeout=70"


def test_half_open_connections_are_closed_and_a_stop_with_them_is_no_traceback() -> None:
    options = ("--head-seconds", "1", "--drain-seconds", "1", "--max-connections-per-address", "30")
    with (
        served(*options, said=("max_connections_per_address",), unsaid=("Traceback", "Exception")) as server,
        ExitStack() as stack,
    ):
        silent = [connected(server.url, stack) for _ in range(40)]
        begun = time.monotonic()
        assert sum(one.recv(12) == b"HTTP/1.1 503" for one in silent) == 10
        assert time.monotonic() - begun < 20
        half = connected(server.url, stack)
        half.sendall(HALF_A_BODY)
        assert httpx.get(f"{server.url}/healthz").status_code == 200
