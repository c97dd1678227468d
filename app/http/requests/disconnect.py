"""Whether the client is still there: work for one that has gone is called off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request


@asynccontextmanager
async def while_connected(request: Request) -> AsyncIterator[None]:
    """Cancel what runs in the block when the client closes the connection. The body must have been read.

    What has begun in the engine by then goes on there: see `app.engine.Engine.predict`.

    Raises:
        ClientDisconnect: the client has gone; nobody reads what is answered.
    """
    task, gone = asyncio.current_task(), False
    if task is None:
        raise RuntimeError("a request is handled by a task")

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watching = asyncio.ensure_future(watch())
    try:
        yield
    except asyncio.CancelledError:
        # Uncancel tells whether somebody else, such as a server that ends, has cancelled the task too.
        if gone and not task.uncancel():
            raise ClientDisconnect from None
        raise
    finally:
        watching.cancel()
