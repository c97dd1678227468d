"""What a connection is refused with before any request reaches the application: status, code, message and log line."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import NamedTuple


class Refusal(NamedTuple):
    """``kind`` names it in the log, where lines of one kind are counted together; ``setting`` is what bounds it."""

    status: int
    code: str
    message: str
    kind: str
    setting: str = ""

    def wire(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The whole response, in the shape of every error; ``headers`` are those of all answers."""
        body = json.dumps({"error": self.message, "code": self.code}).encode()
        own = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            own.append((b"retry-after", b"1"))
        lines = [b"%s: %s" % pair for pair in (*headers, *own)]
        status = f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}".encode()
        return b"\r\n".join([status, *lines, b"", body])


HEAD_TOO_LARGE = Refusal(
    431,
    "head_too_large",
    "the request's head (first line and headers) or a line between parts of its body is too large; send fewer or "
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
    408, "request_timeout", "the request's head did not arrive in time", "heads that did not arrive", "head_seconds"
)
SILENT = Refusal(408, "request_timeout", "nothing was sent", "connections on which nothing was sent", "head_seconds")
SLOW_BODY = Refusal(
    408,
    "request_timeout",
    "the request's body stopped arriving, or arrives too slowly",
    "bodies that stopped arriving",
    "body_seconds",
)
STALLED = Refusal(408, "request_timeout", "the answer was not taken", "answers that nobody took", "body_seconds")
MALFORMED = Refusal(400, "malformed_request", "this is no request as HTTP/1.1 has them", "malformed requests")
BAD_HANDSHAKE = Refusal(
    400,
    "malformed_request",
    "this does not open a WebSocket: send a GET without a body, with headers of at most 8000 bytes each",
    "malformed WebSocket handshakes",
)
PIPELINED = Refusal(400, "too_many_pipelined", "too many requests at once on a connection", "pipelined requests")
STOPPING = Refusal(
    503, "unavailable", "the server is stopping; send the request again", "requests that came too late to a stop"
)
TOO_MANY_BODIES = Refusal(
    503,
    "busy",
    "too many request bodies are arriving at once; send it again later",
    "request bodies beyond those that may arrive at once",
    "max_bodies",
)
TOO_MANY_CONNECTIONS = Refusal(
    503,
    "busy",
    "the server has too many connections; try again later",
    "connections beyond those that may be open",
    "max_connections, or `ulimit -n`",
)
TOO_MANY_OF_ADDRESS = Refusal(
    503,
    "busy",
    "this address has too many connections to the server; close some",
    "connections of one address beyond those that it may have",
    "max_connections_per_address, 0 for none behind a proxy",
)
NO_DESCRIPTORS = Refusal(
    503,
    "busy",
    "the server has no file descriptors left; try again later",
    "connections because file descriptors run out",
    "`ulimit -n`",
)
