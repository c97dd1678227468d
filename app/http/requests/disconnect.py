"""Cancellation of work for clients that have disconnected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request


@asynccontextmanager
async def while_connected(request: Request) -> AsyncIterator[None]:
    """Cancel the block when the client closes the connection. The body must have been read.

    Work that the engine has begun by then continues: see `app.engine.Engine.predict`.

    Raises:
        ClientDisconnect: the client has disconnected; nobody reads the response.
    """
    task, is_disconnected = asyncio.current_task(), False
    if task is None:
        raise RuntimeError("a request is handled by a task")

    async def watch() -> None:
        nonlocal is_disconnected
        while (await request.receive())["type"] != "http.disconnect":
            pass
        is_disconnected = True
        task.cancel()

    watching = asyncio.ensure_future(watch())
    try:
        yield
    except asyncio.CancelledError:
        # `uncancel` counts the cancellations by others, such as a server that shuts down.
        if is_disconnected and not task.uncancel():
            raise ClientDisconnect from None
        raise
    finally:
        watching.cancel()
