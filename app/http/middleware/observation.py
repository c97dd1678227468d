"""Observation of every call: its id, its duration, its line in the access log, and its trace."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.responses.errors import error_response
from app.observability.logs import REQUEST_ID, access
from app.observability.metrics import OTHER, Metrics
from app.server_state import ServerState
from app.types import Timing

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from app.observability.traces import Tracing

HEADER = b"x-request-id"
"""The header with the request's id: the client's if it is valid, else a random one."""

_IDS = random.Random()  # noqa: S311 - ids tell calls apart and guard nothing
"""Seeded by the system once: asking it for every id would release the interpreter's lock and wait to get it back."""

_VALID_ID = re.compile(rb"[\w.-]{1,128}")
_KEY = "renorm.exchange"

LONGEST = 500
"""Characters of a path in the access log."""

PROBES = ("/healthz", "/readyz", "/metrics", "/v2/health")
"""Paths that are polled every few seconds: they, and those below them, are timed but neither logged nor traced."""

CLIENT_CLOSED = 499
"""The status in metrics and logs of a call whose client disconnected before the response."""


class Exchange:
    """One call in progress: its id, status, length, stream and span."""

    __slots__ = ("_send", "length", "request_id", "span", "status", "stream", "tracing")

    def __init__(self, scope: Scope, send: Send) -> None:
        self._send = send
        self.request_id = _request_id(scope)
        self.status = self.length = 0
        self.stream = ""
        self.tracing: Tracing | None = None
        self.span: Span | None = None

    async def send(self, message: Message) -> None:
        """Pass a message of the application on with the id, and record status and length."""
        kind = message["type"]
        if kind == "http.response.body":
            self.length += len(message.get("body", b""))
        elif kind in {"http.response.start", "websocket.accept", "websocket.http.response.start"}:
            self.status = message.get("status", 101)
            headers = [*message.get("headers", ()), (HEADER, self.request_id.encode("ascii"))]
            message = {**message, "headers": headers}
        elif kind == "websocket.send":
            self.length += len(message.get("bytes") or message.get("text") or "")
        elif kind == "websocket.close" and self.status == 0:
            self.status = 403  # what servers respond where no WebSocket was accepted
        await self._send(message)


def install(app: FastAPI, state: ServerState, routers: Iterable[APIRouter]) -> None:
    """Measure every call of the application, and log and trace it if the settings say so."""
    routes = [*app.routes, *(route for router in routers for route in router.routes)]
    app.add_middleware(Observation, metrics=state.metrics, routes=routes, tracing=lambda: state.tracing)


class Observation:
    """ASGI middleware around all others, so that it observes refusals and failures of every kind.

    ``routes`` provide the path templates of calls that were refused before they reached their route; ``tracing``
    returns the exporter of spans, if there is one.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        routes: Iterable[BaseRoute] = (),
        tracing: Callable[[], Tracing | None] = lambda: None,
    ) -> None:
        self.app, self._metrics, self._tracing = app, metrics, tracing
        matchable = (route for route in routes if isinstance(route, Route | WebSocketRoute | Mount))
        self._paths = [(route.path_regex, route.path) for route in matchable]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on, then measure, log and trace it."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        scope[_KEY] = exchange = Exchange(scope, send)
        token = REQUEST_ID.set(exchange.request_id)
        tracing = self._tracing()
        if tracing is not None and not _is_probe(scope):
            exchange.tracing, exchange.span = tracing, tracing.start(scope["headers"])
        try:
            await self._answer(scope, receive, exchange)
        finally:
            self._finish(scope, exchange, time.perf_counter() - started)
        # Not after a failure: the server logs its traceback next, and that line belongs to this call as well.
        REQUEST_ID.reset(token)

    async def _answer(self, scope: Scope, receive: Receive, exchange: Exchange) -> None:
        try:
            await self.app(scope, receive, exchange.send)
        except Exception as error:
            # Starlette would answer outside of every middleware, and so without the id.
            if exchange.status == 0 and scope["type"] == "http":
                await error_response(error, scope)(scope, receive, exchange.send)
            exchange.status = exchange.status or 500
            raise

    def _finish(self, scope: Scope, exchange: Exchange, seconds: float) -> None:
        route, method = self._route(scope), scope.get("method", "WEBSOCKET")
        status = exchange.status or CLIENT_CLOSED
        if scope["type"] == "http":
            # A WebSocket is open as long as its client likes, which is no duration to compare with a request's.
            self._metrics.request(route, method, status, seconds)
        if access.isEnabledFor(logging.INFO) and not _is_probe(scope):
            _log(scope, exchange, seconds)
        if exchange.span is not None and exchange.tracing is not None:
            attributes = {"http.request.method": method, "http.route": route, "http.response.status_code": status}
            attributes |= {"renorm.request_id": exchange.request_id, "renorm.stream": exchange.stream}
            exchange.tracing.finish(exchange.span, f"{method} {route}", attributes, failed=status >= 500)

    def _route(self, scope: Scope) -> str:
        """Return the template of the call's path: there are few, while clients can invent any number of paths."""
        path = getattr(scope.get("route"), "path", None)
        if isinstance(path, str) and path:
            return path
        path = scope["path"]
        return next((template for pattern, template in self._paths if pattern.match(path)), OTHER)


def note(scope: Scope, stream: str, timing: Timing | None = None) -> None:
    """Record the stream of a call and, once the engine has answered, the duration of each stage."""
    exchange: Exchange | None = scope.get(_KEY)
    if exchange is None:
        return
    exchange.stream = stream
    if timing is not None and exchange.span is not None and exchange.tracing is not None:
        exchange.tracing.stages(exchange.span, timing)


@asynccontextmanager
async def tracing_beside(state: ServerState) -> AsyncIterator[None]:
    """Trace calls while the block runs, if the settings turn it on.

    Raises:
        MissingPackageError: OpenTelemetry is not installed.
    """
    if not state.settings.traces:
        yield
        return
    from app.observability.traces import Tracing  # noqa: PLC0415 - an extra, which a server without traces does without

    state.tracing = exporter = Tracing()
    try:
        yield
    finally:
        state.tracing = None
        await asyncio.to_thread(exporter.close)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == HEADER and _VALID_ID.fullmatch(value):
            return str(value, "ascii")
    return f"{_IDS.getrandbits(128):032x}"


def _is_probe(scope: Scope) -> bool:
    path: str = scope["path"]
    # The first test alone settles it for nearly every call that is not a probe.
    return path.startswith(PROBES) and any(path == probe or path.startswith(f"{probe}/") for probe in PROBES)


def _log(scope: Scope, exchange: Exchange, seconds: float) -> None:
    client = scope.get("client")
    method, path, status = scope.get("method", "WEBSOCKET"), scope["path"][:LONGEST], exchange.status or CLIENT_CLOSED
    fields = {
        "duration_ms": round(1000 * seconds, 3),
        "bytes": exchange.length,
        "client": client[0] if client else None,
        **({"stream": exchange.stream} if exchange.stream else {}),
    }
    parts = {"method": method, "path": path, "status": status}
    access.info("%s %s %d", method, quote(path, errors="replace"), status, extra={"parts": parts, "fields": fields})
