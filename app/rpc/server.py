"""gRPC itself: the server, who may call it, and how a call comes to the `Service`. Imported only where asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI
from starlette.datastructures import Headers

from app.access import Access, needed, presented
from app.errors import MissingPackageError, UnsupportedError
from app.routes.caller import KEY, client_of

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
        ("grpc.so_reuseport", 0),  # by default two servers share a port without noticing
    ]
    server = grpc.aio.server(interceptors=[Guard(app.state.access, sorted(calls))], options=options)
    handlers = {name: _handler(handle, app.state.access) for name, handle in calls.items()}
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


def _handler(handle: Handler, access: Access) -> grpc.RpcMethodHandler:
    # Without serializers, so that a message that is none is refused by our table, and a large one read in a thread.
    async def answer(body: bytes, context: grpc.aio.ServicerContext) -> bytes:
        try:
            metadata = _headers(context.invocation_metadata())
            who = _client(access, metadata, context.peer())
            return await handle(body, About(metadata, context.time_remaining(), who))
        except Exception as error:
            return await refuse(context, error)

    return grpc.unary_unary_rpc_method_handler(answer)


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
