"""Refusals of connections before a request reaches the application: status, code, message and log line."""

from __future__ import annotations

import json
from functools import partial
from http import HTTPStatus
from typing import NamedTuple


class Refusal(NamedTuple):
    """A refusal. Log lines of one ``kind`` are counted together; ``setting`` names the limit."""

    status: int
    code: str
    message: str
    kind: str
    setting: str = ""

    def wire(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """Return the complete response, in the JSON shape of every error; ``headers`` are those of all responses."""
        body = json.dumps({"error": self.message, "code": self.code}).encode()
        response_headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            response_headers.append((b"retry-after", b"1"))
        lines = [b"%s: %s" % pair for pair in (*headers, *response_headers)]
        status = f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}".encode()
        return b"\r\n".join([status, *lines, b"", body])


_busy = partial(Refusal, 503, "busy")

HEAD_TOO_LARGE = Refusal(
    431,
    "head_too_large",
    "the request's head (request line and headers), or a chunk header or trailer, is too large; send fewer or "
    "shorter headers, or raise RENORM_MAX_HEAD_BYTES",
    "too large request heads",
    "max_head_bytes",
)
TOO_MANY_LINES = Refusal(
    431,
    "head_too_large",
    "the request has too many headers; send fewer, or raise RENORM_MAX_HEAD_LINES",
    "requests with too many headers",
    "max_head_lines",
)
SLOW_HEAD = Refusal(
    408, "request_timeout", "the request's head did not arrive in time", "heads that arrived late", "head_seconds"
)
SILENT = Refusal(408, "request_timeout", "no request was sent", "connections without a request", "head_seconds")
SLOW_BODY = Refusal(
    408,
    "request_timeout",
    "the request's body stopped arriving, or arrived too slowly",
    "request bodies that stopped arriving",
    "body_seconds",
)
STALLED = Refusal(408, "request_timeout", "the response was not read", "responses that were not read", "body_seconds")
MALFORMED = Refusal(400, "malformed_request", "the request is not valid HTTP/1.1", "malformed requests")
BAD_HANDSHAKE = Refusal(
    400,
    "malformed_request",
    "invalid WebSocket handshake: send a GET request without a body, with headers of at most 8000 bytes each",
    "malformed WebSocket handshakes",
)
PIPELINED = Refusal(400, "too_many_pipelined", "too many pipelined requests on a connection", "pipelined requests")
STOPPING = Refusal(
    503, "unavailable", "the server is shutting down; send the request again", "requests during shutdown"
)
TOO_MANY_BODIES = _busy(
    "too many request bodies are arriving at once; retry later", "request bodies over the limit", "max_bodies"
)
TOO_MANY_CONNECTIONS = _busy(
    "the server has too many connections; retry later", "connections over the limit", "max_connections, or `ulimit -n`"
)
TOO_MANY_OF_ADDRESS = _busy(
    "this address has too many connections to the server; close some",
    "connections of one address over its limit",
    "max_connections_per_address, 0 for none behind a proxy",
)
NO_DESCRIPTORS = _busy(
    "the server has no file descriptors left; retry later", "connections for want of file descriptors", "`ulimit -n`"
)
