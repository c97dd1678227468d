"""WebSocket connections of the server, whose memory is on its account from the first byte of a frame on."""

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
"""Bytes of a frame on its way that are not counted: about what the transport reads at once."""

PATIENCE_S, AGAIN_S = 30.0, 0.02
"""Seconds that a frame on its way may be held up for want of memory, and between two looks whether there is some."""

TOO_BIG, TRY_LATER = 1009, 1013
"""Close codes: a message is larger than one may be; the server has no room at present."""


def live_protocol(ledger: Ledger) -> type[asyncio.Protocol]:
    """The protocol class for a server whose memory is accounted for in ``ledger``."""
    return type("LiveProtocol", (AccountedProtocol,), {"ledger": ledger})


class AccountedProtocol(WebSocketsSansIOProtocol):
    """A connection with an account, of which its door learns from the scope.

    A frame that is on its way is counted as it grows, and one that waits for the door until the door takes it, and
    counts it itself. Where there is no room for more of a frame on its way none is read for a while; if that does not
    help, or the connection alone holds too much, it is closed.
    """

    ledger: Ledger

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._account: Account = self.ledger.open(FRAMES)
        self._counted = 0  # of the account, what is here
        self._sizes: deque[int] = deque()  # of the messages that wait for the door
        self._patience: float | None = None  # until when a frame on its way is held up
        self._joined = bytearray()  # the parts of a message that comes in several

    async def run_asgi(self) -> None:
        """The application's side of the connection."""
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        scope[ACCOUNT] = self._account
        await super().run_asgi()

    def data_received(self, data: bytes) -> None:
        """More has come."""
        super().data_received(data)
        self._count()

    async def receive(self) -> Any:
        """The next message, which is then the door's."""
        message = await super().receive()
        # Where the connection has been lost nothing is counted any more, though messages may still wait.
        if message["type"] == "websocket.receive" and self._sizes:
            self._sizes.popleft()
            self._count()
        return message

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is on its way any more."""
        super().connection_lost(exc)
        self._sizes.clear()
        self._set(0)

    def handle_cont(self, event: Frame) -> None:
        """One more part of a message. They are joined as they come: a list of many small ones is far larger."""
        self._joined += event.data
        if event.fin:
            self.frames = [self.frames[0] + bytes(self._joined)]
            self._joined = bytearray()
            self.send_receive_event_to_app()

    def send_receive_event_to_app(self) -> None:
        """A message is whole."""
        waiting, size = self.queue.qsize(), sum(map(len, self.frames))
        super().send_receive_event_to_app()
        if self.queue.qsize() > waiting and not self.close_sent:
            self._sizes.append(size)

    def _count(self) -> None:
        if self.disconnected:
            return
        underway = len(self.conn.reader.buffer) + len(self._joined) + sum(map(len, self.frames))
        whole, part = sum(self._sizes), max(0, underway - FREE)
        if part and part + whole > self._counted and not self.close_sent:
            whole, part = self._checked(whole, part)
        self._set(whole + part)

    def _checked(self, whole: int, part: int) -> tuple[int, int]:
        more = part + whole - self._counted
        try:
            self._account.check(more, is_counted=self._patience is None)
        except TooLargeError as error:
            return self._refused(error)
        except BusyError:
            self._hold_up()
        else:
            if not self._account.has_plenty(more):
                self._hold_up()
        return whole, part

    def _hold_up(self) -> None:
        """Read no more until there is room."""
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()
        if self._patience is None:
            self._patience = self.loop.time() + PATIENCE_S
            self.loop.call_later(AGAIN_S, self._try_again)

    def _try_again(self) -> None:
        if self.disconnected or self.close_sent or self._patience is None:
            return
        if self._account.has_plenty(0):
            self._patience = None
            if self.read_paused and self.queue.empty():
                self.read_paused = False
                self.transport.resume_reading()
        elif self.loop.time() < self._patience:
            self.loop.call_later(AGAIN_S, self._try_again)
        else:
            whole, part = self._refused(BusyError("there was no memory for the message; send it again later"))
            self._set(whole + part)

    def _refused(self, error: RenormError) -> tuple[int, int]:
        self._refuse(error)
        return sum(self._sizes), 0

    def _set(self, amount: int) -> None:
        self._account.note(amount - self._counted)
        self._counted = amount

    def _refuse(self, error: RenormError) -> None:
        self.conn.fail(TOO_BIG if isinstance(error, TooLargeError) else TRY_LATER, error.message[:100])
        self.conn.reader.discard()
        self._joined, self.frames = bytearray(), []
        if self.conn.close_sent is None:
            self.transport.close()  # in the middle of the handshake
        else:
            self.handle_parser_exception()
