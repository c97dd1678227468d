"""Lifespan of the gRPC server, in the process and event loop of the application."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.server_state import ServerState


@asynccontextmanager
async def grpc_beside(state: ServerState) -> AsyncIterator[None]:
    """Serve gRPC while the block runs, if the settings name a port; ``state.grpc_port`` is the bound one.

    While the engine opens, calls that need it are refused as unavailable. At the end running calls may finish within
    the time left to the server, or within ``drain_seconds`` where it has no deadline.

    Raises:
        MissingPackageError: the extra is not installed.
        OSError: the port cannot be bound.
    """
    settings, state.grpc_port = state.settings, None
    if settings.grpc_port is None:
        yield
        return
    from app.rpc.server import build  # noqa: PLC0415 - an extra, which a server without gRPC does without

    server, state.grpc_port = build(state)
    await server.start()
    try:
        yield
    finally:
        state.is_draining, deadline = True, state.deadline
        await server.stop(settings.drain_seconds if deadline is None else max(0.0, deadline - time.monotonic()))
