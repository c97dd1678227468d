"""What is seen of every call: its id, its duration, its line in the access log, and its trace."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.responses.errors import reply
from app.observability.logs import REQUEST_ID, access
from app.observability.metrics import OTHER, Metrics
from app.settings import Settings
from app.types import Timing

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from app.observability.traces import Tracing

HEADER = b"x-request-id"
"""The header that says which request it is: a client's own word if it is a sane one, else one made up here."""

_IDS = random.Random()  # noqa: S311 - ids tell calls apart and guard nothing
"""Seeded by the system once: asking it for every id gives up the interpreter's lock, and waits to get it back."""

_SANE = re.compile(rb"[\w.-]{1,128}")
_KEY = "renorm.exchange"

LONGEST = 500
"""Characters of a path in the access log."""

PROBES = ("/healthz", "/readyz", "/metrics", "/v2/health")
"""Paths that are asked every few seconds: they, and what is below them, are timed but neither logged nor traced."""

GONE = 499
"""The status in metrics and logs of a call whose client went before it was answered."""


class Exchange:
    """One call while it is answered, and what is known of it so far."""

    __slots__ = ("_send", "length", "request_id", "span", "status", "stream", "tracing")

    def __init__(self, scope: Scope, send: Send) -> None:
        self._send = send
        self.request_id = _request_id(scope)
        self.status = self.length = 0
        self.stream = ""
        self.tracing: Tracing | None = None
        self.span: Span | None = None

    async def send(self, message: Message) -> None:
        """Pass on what the application says, with the id, and remember status and length."""
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
            self.status = 403  # what servers answer where no WebSocket was accepted
        await self._send(message)


def install(app: FastAPI, settings: Settings, routers: Iterable[APIRouter]) -> None:
    """Measure every call of the application, and log and trace it if the settings say so."""
    app.state.metrics, app.state.tracing = Metrics(settings.metrics_streams), None
    routes = [*app.routes, *(route for router in routers for route in router.routes)]
    app.add_middleware(Observe, metrics=app.state.metrics, routes=routes, tracing=lambda: app.state.tracing)


class Observe:
    """ASGI middleware around all others, so that refusals and failures of every kind are seen too.

    ``routes`` are those whose paths name calls that were refused before they reached their route; ``tracing`` says
    where spans go, if anywhere.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        routes: Iterable[BaseRoute] = (),
        tracing: Callable[[], Tracing | None] = lambda: None,
    ) -> None:
        self.app, self._metrics, self._tracing = app, metrics, tracing
        known = (route for route in routes if isinstance(route, Route | WebSocketRoute | Mount))
        self._paths = [(route.path_regex, route.path) for route in known]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on, and tell what became of it."""
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
                await reply(error, scope)(scope, receive, exchange.send)
            exchange.status = exchange.status or 500
            raise

    def _finish(self, scope: Scope, exchange: Exchange, seconds: float) -> None:
        route, method = self._route(scope), scope.get("method", "WEBSOCKET")
        status = exchange.status or GONE
        if scope["type"] == "http":
            # A WebSocket is open as long as its client likes, which is no duration to compare with a request's.
            self._metrics.request(route, method, status, seconds)
        if access.isEnabledFor(logging.INFO) and not _is_probe(scope):
            _log(scope, exchange, seconds)
        if exchange.span is not None and exchange.tracing is not None:
            said = {"http.request.method": method, "http.route": route, "http.response.status_code": status}
            ours = {"renorm.request_id": exchange.request_id, "renorm.stream": exchange.stream}
            exchange.tracing.finish(exchange.span, f"{method} {route}", {**said, **ours}, failed=status >= 500)

    def _route(self, scope: Scope) -> str:
        """The template of the call's path: there are few, and as many paths as clients like to think of."""
        path = getattr(scope.get("route"), "path", None)
        if isinstance(path, str) and path:
            return path
        asked = scope["path"]
        return next((template for pattern, template in self._paths if pattern.match(asked)), OTHER)


def note(scope: Scope, stream: str, timing: Timing | None = None) -> None:
    """A door tells which stream a call is about, and, once the engine has answered, how long each stage took."""
    exchange: Exchange | None = scope.get(_KEY)
    if exchange is None:
        return
    exchange.stream = stream
    if timing is not None and exchange.span is not None and exchange.tracing is not None:
        exchange.tracing.stages(exchange.span, timing)


Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def traced(lifespan: Lifespan) -> Lifespan:
    """The lifespan with traces, if the application's settings ask for them: ``app.state.tracing``.

    Raises:
        MissingPackageError: when it is entered and OpenTelemetry is not installed.
    """

    @asynccontextmanager
    async def around(app: FastAPI) -> AsyncIterator[None]:
        if not app.state.settings.traces:
            async with lifespan(app):
                yield
            return
        from app.observability.traces import Tracing  # noqa: PLC0415 - an extra, which a server without traces does without

        app.state.tracing = tracing = Tracing()
        try:
            async with lifespan(app):
                yield
        finally:
            app.state.tracing = None
            await asyncio.to_thread(tracing.close)

    return around


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == HEADER and _SANE.fullmatch(value):
            return str(value, "ascii")
    return f"{_IDS.getrandbits(128):032x}"


def _is_probe(scope: Scope) -> bool:
    path: str = scope["path"]
    # The first test alone settles it for nearly every call that is not a probe.
    return path.startswith(PROBES) and any(path == probe or path.startswith(f"{probe}/") for probe in PROBES)


def _log(scope: Scope, exchange: Exchange, seconds: float) -> None:
    client = scope.get("client")
    method, path, status = scope.get("method", "WEBSOCKET"), scope["path"][:LONGEST], exchange.status or GONE
    fields = {
        "duration_ms": round(1000 * seconds, 3),
        "bytes": exchange.length,
        "client": client[0] if client else None,
        **({"stream": exchange.stream} if exchange.stream else {}),
    }
    parts = {"method": method, "path": path, "status": status}
    access.info("%s %s %d", method, quote(path, errors="replace"), status, extra={"parts": parts, "fields": fields})
