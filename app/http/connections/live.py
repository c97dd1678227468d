"""A live connection (WebSocket), which counts as the HTTP connection that it was upgraded from."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from app.http.connections.door import Door
from app.http.connections.refusals import BAD_HANDSHAKE


def counted(door: Door, base: type[asyncio.Protocol] = WebSocketsSansIOProtocol) -> type[asyncio.Protocol]:
    """Return the protocol class ``base`` for a server with that door."""
    return type("CountedConnection", (LiveConnection, base), {"door": door})


class LiveConnection(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol, which gives its place in the door back when the connection is lost."""

    door: Door

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._served = self.app
        self.app = self._serve

    def data_received(self, data: bytes) -> None:
        """Pass data on, or refuse a handshake that is valid HTTP but not valid WebSocket.

        uvicorn would not respond and keep the connection for ever, and the server could not stop.
        """
        super().data_received(data)
        if self.conn.handshake_exc is None or self.close_sent or self.transport.is_closing():
            return
        self.handshake_complete = self.close_sent = True
        self.door.notices.report(BAD_HANDSHAKE, self.client[0] if self.client else "an unknown address")
        self.transport.write(BAD_HANDSHAKE.to_http(self.default_headers))
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the door."""
        self.door.leave(self.transport)
        super().connection_lost(exc)

    async def _serve(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        try:
            await self._served(scope, receive, send)
        except asyncio.CancelledError:
            # By the server, when the time to finish is over; its client knows already. uvicorn would log a traceback.
            if not self.door.is_draining:
                raise
