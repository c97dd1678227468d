"""A live connection (WebSocket), counted as the connection that it was before."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from app.http.connections.door import Door
from app.http.connections.refusals import BAD_HANDSHAKE


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

    def data_received(self, data: bytes) -> None:
        """Go on, or refuse a handshake that HTTP takes and WebSocket does not: uvicorn would leave it unanswered.

        It would keep the connection for ever, and the server's stop would fail at it.
        """
        super().data_received(data)
        if self.conn.handshake_exc is None or self.close_sent or self.transport.is_closing():
            return
        self.handshake_complete = self.close_sent = True
        self.door.notices.say(BAD_HANDSHAKE, self.client[0] if self.client else "an unknown address")
        self.transport.write(BAD_HANDSHAKE.wire(self.default_headers))
        self.transport.close()

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
