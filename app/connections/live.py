"""A live connection (WebSocket), counted as the connection that it was before."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from app.connections.door import Door


def counted(door: Door, base: type[asyncio.Protocol] = WebSocketsSansIOProtocol) -> type[asyncio.Protocol]:
    """The protocol class ``base`` for a server with that door."""
    return type("CountedConnection", (LiveConnection, base), {"door": door})


class LiveConnection(WebSocketsSansIOProtocol):
    """uvicorn's protocol, which the transport calls from the upgrade on, the loss of the connection included."""

    door: Door

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._served = self.app
        self.app = self._serve

    def connection_lost(self, exc: Exception | None) -> None:
        """Give its place back."""
        self.door.leave(self.transport)
        super().connection_lost(exc)

    async def _serve(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        try:
            await self._served(scope, receive, send)
        except asyncio.CancelledError:
            # By the server, when the time to finish is over; its client was told before. uvicorn would log a traceback.
            if not self.door.is_draining:
                raise
