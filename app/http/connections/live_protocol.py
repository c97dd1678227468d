"""WebSocket connections whose memory is accounted for from the first byte of a frame on."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from app.errors import BusyError, RenormError, TooLargeError
from app.http.middleware.body_limit import ACCOUNT, FRAMES
from app.resources.memory import Account, Ledger

FREE = 2**18
"""Bytes of an incomplete frame that are not counted: about one read of the transport."""

PATIENCE_S, POLL_S = 30.0, 0.02
"""Seconds that an incomplete frame may wait for memory, and between two checks for it."""

TOO_BIG, TRY_LATER = 1009, 1013
"""Close codes: the message is too big; the server has no memory at present."""


def live_protocol(ledger: Ledger) -> type[asyncio.Protocol]:
    """Return the protocol class for a server whose memory is accounted for in ``ledger``."""
    return type("LiveProtocol", (AccountedProtocol,), {"ledger": ledger})


class AccountedProtocol(WebSocketsSansIOProtocol):
    """A connection with a memory account, which the endpoint finds in the scope.

    An incomplete frame is counted as it grows, and a queued message until the endpoint receives it and counts it
    itself. Without memory for more of a frame, reading pauses; if memory stays short, or the connection alone holds too
    much, the connection is closed.
    """

    ledger: Ledger

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._account: Account = self.ledger.open(FRAMES)
        self._counted = 0  # bytes of the account held here
        self._sizes: deque[int] = deque()  # of the queued messages
        self._patience: float | None = None  # the deadline of an incomplete frame that waits
        self._joined = bytearray()  # the parts of a fragmented message

    async def run_asgi(self) -> None:
        """Run the application's side of the connection."""
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        scope[ACCOUNT] = self._account
        await super().run_asgi()

    def data_received(self, data: bytes) -> None:
        """Read and count more bytes."""
        super().data_received(data)
        self._count()

    async def receive(self) -> Any:
        """Return the next message, which the endpoint counts from then on."""
        message = await super().receive()
        # After a lost connection nothing is counted, although messages may still be queued.
        if message["type"] == "websocket.receive" and self._sizes:
            self._sizes.popleft()
            self._count()
        return message

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the account."""
        super().connection_lost(exc)
        self._sizes.clear()
        self._set_counted(0)

    def handle_cont(self, event: Frame) -> None:
        """Append a part of a fragmented message at once: a list of many small parts is far larger."""
        self._joined += event.data
        if event.fin:
            self.frames = [self.frames[0] + bytes(self._joined)]
            self._joined = bytearray()
            self.send_receive_event_to_app()

    def send_receive_event_to_app(self) -> None:
        """Queue a complete message."""
        waiting, size = self.queue.qsize(), sum(map(len, self.frames))
        super().send_receive_event_to_app()
        if self.queue.qsize() > waiting and not self.close_sent:
            self._sizes.append(size)

    def _count(self) -> None:
        if self.disconnected:
            return
        underway = len(self.conn.reader.buffer) + len(self._joined) + sum(map(len, self.frames))
        queued, partial = sum(self._sizes), max(0, underway - FREE)
        if partial and partial + queued > self._counted and not self.close_sent:
            queued, partial = self._check_growth(queued, partial)
        self._set_counted(queued + partial)

    def _check_growth(self, queued: int, partial: int) -> tuple[int, int]:
        growth = partial + queued - self._counted
        try:
            self._account.check(growth, is_counted=self._patience is None)
        except TooLargeError as error:
            return self._close_and_recount(error)
        except BusyError:
            self._pause_reading()
        else:
            if not self._account.has_plenty(growth):
                self._pause_reading()
        return queued, partial

    def _pause_reading(self) -> None:
        """Pause reading until there is memory."""
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()
        if self._patience is None:
            self._patience = self.loop.time() + PATIENCE_S
            self.loop.call_later(POLL_S, self._try_again)

    def _try_again(self) -> None:
        if self.disconnected or self.close_sent or self._patience is None:
            return
        if self._account.has_plenty(0):
            self._patience = None
            if self.read_paused and self.queue.empty():
                self.read_paused = False
                self.transport.resume_reading()
        elif self.loop.time() < self._patience:
            self.loop.call_later(POLL_S, self._try_again)
        else:
            queued, partial = self._close_and_recount(BusyError("no memory for the message; send it again later"))
            self._set_counted(queued + partial)

    def _close_and_recount(self, error: RenormError) -> tuple[int, int]:
        self._fail_connection(error)
        return sum(self._sizes), 0

    def _set_counted(self, amount: int) -> None:
        self._account.note(amount - self._counted)
        self._counted = amount

    def _fail_connection(self, error: RenormError) -> None:
        self.conn.fail(TOO_BIG if isinstance(error, TooLargeError) else TRY_LATER, error.message[:100])
        self.conn.reader.discard()
        self._joined, self.frames = bytearray(), []
        if self.conn.close_sent is None:
            self.transport.close()  # in the middle of the handshake
        else:
            self.handle_parser_exception()
