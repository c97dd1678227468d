"""The gRPC server: access control, admission of messages and dispatch to `Service`. Imported only where gRPC is on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import unquote

from starlette.datastructures import Headers

from app.auth.access import Access, presented_keys, required_scope
from app.errors import DeadlineError, FieldError, MissingPackageError, UnsupportedError
from app.http.requests.caller import KEY, client_of
from app.resources.memory import Ledger
from app.server_state import ServerState

try:
    import grpc

    from app.rpc.errors import refuse
    from app.rpc.service import CallContext, Handler, Service
except ModuleNotFoundError as missing:
    raise MissingPackageError(
        f"gRPC needs the package '{missing.name}', which is not installed",
        hint="pip install 'renorm[grpc]', or start without --grpc-port",
    ) from missing

SERVICE = "inference.GRPCInferenceService"

MESSAGES = "messages"
"""The kind of memory that messages, and the tensors made of them, take."""

LEAST_ARRIVALS, ARRIVAL_S = 4, 60.0
"""Messages that may arrive at once however little memory there is, and the seconds that each may take."""

IDLE_MS = 600_000
"""Milliseconds until a connection without calls is closed by GOAWAY, which loses no call; clients then reconnect."""

PING_MS, SILENT_MS = 60_000, 20_000
"""Milliseconds between pings of an idle connection, and until one that does not answer is closed."""

STREAMS = 100
"""Concurrent calls on one connection, as HTTP/2 recommends; clients let further ones wait."""

PATHS = {"ServerLive": "/v2/health/live", "ServerReady": "/v2/health/ready"}
"""The HTTP paths whose key scope a call needs; calls that are not listed need that of ``/v2``."""


def build(state: ServerState) -> tuple[grpc.aio.Server, int]:
    """Return a server for the state's settings, which has not started yet, and the port that it is bound to.

    Raises:
        OSError: the port cannot be bound.
    """
    settings, calls = state.settings, Service(state).calls()
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
    handle_with = _Arrivals(state.access, state.memory, settings.max_body_bytes)
    server = grpc.aio.server(interceptors=[Guard(state.access, sorted(calls))], options=options)
    handlers = {name: handle_with.handler(handle) for name, handle in calls.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        return server, server.add_insecure_port(f"{host}:{settings.grpc_port}")
    except RuntimeError as error:
        raise OSError(f"gRPC cannot listen on port {settings.grpc_port} of {settings.host}") from error


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Interceptor that refuses calls without a valid key, and unknown calls, before their message is read."""

    def __init__(self, access: Access, calls: Sequence[str]) -> None:
        self._access, self._calls = access, calls

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Return the call's handler, or one that refuses it."""
        service, _, name = handler_call_details.method[1:].rpartition("/")
        try:
            keys = presented_keys(_headers(handler_call_details.invocation_metadata).raw) if self._access.keyed else []
            self._access.check(required_scope(PATHS.get(name, "/v2")), keys)
        except Exception as error:
            return _refusing_handler(error)
        handler = await continuation(handler_call_details)
        if handler is None:
            message = f"service {service[:100]!r} has no method {name[:100]!r}"
            return _refusing_handler(UnsupportedError(message, hint=f"{SERVICE} has {', '.join(self._calls)}"))
        return handler


class _Arrivals:
    """Limits the number of messages that arrive at once by memory, and counts each on the account of its call.

    A message's size is known only when it has arrived. Of an unread message gRPC takes no more than a window.
    """

    def __init__(self, access: Access, ledger: Ledger, max_body_bytes: int) -> None:
        self._access, self._ledger = access, ledger
        self._places = asyncio.Semaphore(max(LEAST_ARRIVALS, ledger.capacity // max_body_bytes))

    def handler(self, handle: Handler) -> grpc.RpcMethodHandler:
        """Return a handler without serializers, so that an invalid message is refused by our table of errors."""

        async def answer(messages: object, context: grpc.aio.ServicerContext) -> bytes:
            del messages
            try:
                with self._ledger.open(MESSAGES, context.peer()) as account:
                    body = await self._read(context)
                    account.take(len(body))
                    metadata = _headers(context.invocation_metadata())
                    client = _client(self._access, metadata, context.peer())
                    return await handle(body, CallContext(metadata, context.time_remaining(), client, account))
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
                raise DeadlineError(f"the message did not arrive within {ARRIVAL_S:g} s") from error
        if not isinstance(body, bytes):
            raise FieldError("the call has no message", hint="send one message")
        return body


def _client(access: Access, metadata: Headers, peer: str) -> str:
    """Return the client's name, as the HTTP door gives it; the call has passed the access check."""
    valid = access.valid_keys(presented_keys(metadata.raw))
    if valid:
        return client_of({KEY: valid[0].name})
    # Such as ipv4:127.0.0.1:5000 and ipv6:%5B::1%5D:5000.
    kind, _, address = unquote(peer).partition(":")
    host = address.rpartition(":")[0].strip("[]")
    return client_of({"client": (host, 0)}) if kind in {"ipv4", "ipv6"} else peer


def _refusing_handler(error: Exception) -> grpc.RpcMethodHandler:
    async def answer(_: object, context: grpc.aio.ServicerContext) -> None:
        await refuse(context, error)

    # Of the kind that may end before anything is read; clients of any kind understand it.
    return grpc.stream_stream_rpc_method_handler(answer)


def _headers(metadata: Any) -> Headers:
    """Return a call's metadata as the HTTP headers that it was sent as."""
    raw = [(name, value.encode() if isinstance(value, str) else value) for name, value in metadata or ()]
    return Headers(raw=[(name.encode(), value) for name, value in raw])
