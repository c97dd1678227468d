"""gRPC itself: the server, who may call it, and how a call comes to the `Service`. Imported only where asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI
from starlette.datastructures import Headers

from app.auth.access import Access, needed, presented
from app.errors import DeadlineError, FieldError, MissingPackageError, UnsupportedError
from app.http.requests.caller import KEY, client_of
from app.resources.memory import Ledger

try:
    import grpc

    from app.rpc.errors import refuse
    from app.rpc.service import About, Handler, Service
except ModuleNotFoundError as missing:
    raise MissingPackageError(
        f"gRPC needs the package '{missing.name}', which is not installed",
        hint="pip install 'renorm[grpc]', or start without --grpc-port",
    ) from missing

SERVICE = "inference.GRPCInferenceService"

MESSAGES = "messages"
"""The kind of memory that messages take, and what is made of them."""

LEAST_ARRIVALS, ARRIVAL_S = 4, 60.0
"""Messages that may be on their way at once however little memory there is, and the seconds that each has for that."""

IDLE_MS = 600_000
"""Until a connection without a call is told to go: by GOAWAY, which loses no call; clients make another one then."""

PING_MS, SILENT_MS = 60_000, 20_000
"""Between two pings of a connection that is silent, and until one that answers none of them is closed."""

STREAMS = 100
"""Calls at a time on one connection, as HTTP/2 recommends; a client has further ones wait."""

PATHS = {"ServerLive": "/v2/health/live", "ServerReady": "/v2/health/ready"}
"""The HTTP paths whose scope a call has; a call that is not here has that of ``/v2``."""


def build(app: FastAPI) -> tuple[grpc.aio.Server, int]:
    """A server for the application's settings that has not started yet, and the port that it is bound to.

    Raises:
        OSError: the port cannot be bound.
    """
    settings, calls = app.state.settings, Service(app.state).calls()
    options = [
        ("grpc.max_receive_message_length", settings.max_body_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", settings.max_head_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_head_bytes),
        ("grpc.max_connection_idle_ms", IDLE_MS),
        ("grpc.keepalive_time_ms", PING_MS),
        ("grpc.keepalive_timeout_ms", SILENT_MS),
        ("grpc.max_concurrent_streams", STREAMS),
        ("grpc.so_reuseport", 0),  # by default two servers share a port without noticing
    ]
    handle_with = _Arrivals(app.state.access, app.state.memory, settings.max_body_bytes)
    server = grpc.aio.server(interceptors=[Guard(app.state.access, sorted(calls))], options=options)
    handlers = {name: handle_with.handler(handle) for name, handle in calls.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        return server, server.add_insecure_port(f"{host}:{settings.grpc_port}")
    except RuntimeError as error:
        raise OSError(f"gRPC cannot listen on port {settings.grpc_port} of {settings.host}") from error


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Lets a call pass if it may, and if it is one of ``calls``; before its message is read."""

    def __init__(self, access: Access, calls: Sequence[str]) -> None:
        self._access, self._calls = access, calls

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """The handler of the call: its own, or one that refuses it."""
        service, _, name = handler_call_details.method[1:].rpartition("/")
        try:
            keys = presented(_headers(handler_call_details.invocation_metadata).raw) if self._access.keyed else []
            self._access.check(needed(PATHS.get(name, "/v2")), keys)
        except Exception as error:
            return _refusing(error)
        handler = await continuation(handler_call_details)
        if handler is None:
            what = f"there is no call {name[:100]!r} of {service[:100]!r}"
            return _refusing(UnsupportedError(what, hint=f"{SERVICE} has {', '.join(self._calls)}"))
        return handler


class _Arrivals:
    """How calls come in: no more messages are on their way at once than memory allows, each on its account.

    How large a message is, is known when it is there. Of one that nobody reads gRPC takes no more than a window.
    """

    def __init__(self, access: Access, ledger: Ledger, most: int) -> None:
        self._access, self._ledger = access, ledger
        self._places = asyncio.Semaphore(max(LEAST_ARRIVALS, ledger.capacity // most))

    def handler(self, handle: Handler) -> grpc.RpcMethodHandler:
        """A handler without serializers, so that a message that is none is refused by our table."""

        async def answer(messages: object, context: grpc.aio.ServicerContext) -> bytes:
            del messages
            try:
                with self._ledger.open(MESSAGES, context.peer()) as account:
                    body = await self._read(context)
                    account.take(len(body))
                    metadata = _headers(context.invocation_metadata())
                    who = _client(self._access, metadata, context.peer())
                    return await handle(body, About(metadata, context.time_remaining(), who, account))
            except Exception as error:
                return await refuse(context, error)

        # To clients it is a call with one message like any other; here it can be left unread for a while.
        return grpc.stream_unary_rpc_method_handler(answer)

    async def _read(self, context: grpc.aio.ServicerContext) -> bytes:
        async with self._places:
            try:
                async with asyncio.timeout(ARRIVAL_S):
                    body = await context.read()
            except TimeoutError as error:
                raise DeadlineError(f"the message was not whole after {ARRIVAL_S:g} s") from error
        if not isinstance(body, bytes):
            raise FieldError("the call has no message", hint="send one")
        return body


def _client(access: Access, metadata: Headers, peer: str) -> str:
    """Who calls, in the words of the HTTP door; the call has been let pass."""
    valid = access.valid(presented(metadata.raw))
    if valid:
        return client_of({KEY: valid[0].name})
    # Such as ipv4:127.0.0.1:5000 and ipv6:%5B::1%5D:5000.
    kind, _, address = unquote(peer).partition(":")
    host = address.rpartition(":")[0].strip("[]")
    return client_of({"client": (host, 0)}) if kind in {"ipv4", "ipv6"} else peer


def _refusing(error: Exception) -> grpc.RpcMethodHandler:
    async def answer(_: object, context: grpc.aio.ServicerContext) -> None:
        await refuse(context, error)

    # Of the kind that may end before anything is read; clients of any kind understand it.
    return grpc.stream_stream_rpc_method_handler(answer)


def _headers(metadata: Any) -> Headers:
    """A call's metadata as HTTP has it, which is how it travelled."""
    raw = [(name, value.encode() if isinstance(value, str) else value) for name, value in metadata or ()]
    return Headers(raw=[(name.encode(), value) for name, value in raw])
