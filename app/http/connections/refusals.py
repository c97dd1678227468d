"""Refusals of connections before a request reaches the application: status, code, message and log line."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import NamedTuple

from app.error_info import ErrorInfo


class Refusal(NamedTuple):
    """A refusal. Log lines of one ``kind`` are counted together; ``setting`` names the limit."""

    info: ErrorInfo
    kind: str
    setting: str = ""

    def to_http(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """Return the complete response; ``headers`` are those of all responses."""
        body, status = self.info.to_json(), HTTPStatus(self.info.status)
        own_headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
        own_headers |= {name.lower(): value for name, value in self.info.headers.items()}
        pairs = (*headers, *((name.encode(), value.encode()) for name, value in own_headers.items()))
        lines = [b"%s: %s" % pair for pair in pairs]
        return b"\r\n".join([f"HTTP/1.1 {status.value} {status.phrase}".encode(), *lines, b"", body])


_busy = partial(ErrorInfo, 503, "busy", retry_after=1)
_late = partial(ErrorInfo, 408, "request_timeout")
_large_head = partial(ErrorInfo, 431, "head_too_large")
_malformed = partial(ErrorInfo, 400, "malformed_request")

HEAD_TOO_LARGE = Refusal(
    _large_head(
        "the request's head (request line and headers), or a chunk header or trailer, is too large",
        "send fewer or shorter headers, or raise RENORM_MAX_HEAD_BYTES",
    ),
    "too large request heads",
    "max_head_bytes",
)
TOO_MANY_LINES = Refusal(
    _large_head("the request has too many headers; send fewer, or raise RENORM_MAX_HEAD_LINES"),
    "requests with too many headers",
    "max_head_lines",
)
SLOW_HEAD = Refusal(_late("the request's head did not arrive in time"), "heads that arrived late", "head_seconds")
SILENT = Refusal(_late("no request was sent"), "connections without a request", "head_seconds")
SLOW_BODY = Refusal(
    _late("the request's body stopped arriving, or arrived too slowly"),
    "request bodies that stopped arriving",
    "body_seconds",
)
STALLED = Refusal(_late("the response was not read"), "responses that were not read", "body_seconds")
MALFORMED = Refusal(_malformed("the request is not valid HTTP/1.1"), "malformed requests")
BAD_HANDSHAKE = Refusal(
    _malformed(
        "invalid WebSocket handshake: send a GET request without a body, with headers of at most 8000 bytes each"
    ),
    "malformed WebSocket handshakes",
)
PIPELINED = Refusal(
    ErrorInfo(400, "too_many_pipelined", "too many pipelined requests on a connection"), "pipelined requests"
)
STOPPING = Refusal(
    ErrorInfo(503, "unavailable", "the server is shutting down; send the request again", retry_after=1),
    "requests during shutdown",
)
TOO_MANY_BODIES = Refusal(
    _busy("too many request bodies are arriving at once; retry later"), "request bodies over the limit", "max_bodies"
)
TOO_MANY_CONNECTIONS = Refusal(
    _busy("the server has too many connections; retry later"),
    "connections over the limit",
    "max_connections, or `ulimit -n`",
)
TOO_MANY_OF_ADDRESS = Refusal(
    _busy("this address has too many connections to the server; close some"),
    "connections of one address over its limit",
    "max_connections_per_address, 0 for none behind a proxy",
)
NO_DESCRIPTORS = Refusal(
    _busy("the server has no file descriptors left; retry later"),
    "connections for want of file descriptors",
    "`ulimit -n`",
)
