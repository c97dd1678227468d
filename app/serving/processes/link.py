"""Messages between the front and one engine process, over a Unix socket.

asyncio's own sockets carry them, because the end of a process then shows at once, as the end of its socket, and no
further thread stands between the two: a round trip takes a fraction of what it takes through a message broker library.

Both ends are this program, and the socket has no name that another could connect to, so messages may be pickled.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import Callable
from typing import Any, cast

Message = tuple[Any, ...]
"""The kind of a message, then its parts; both ends agree on them, see `app.serving.processes.wire`."""

_LENGTH = 4


class Link(asyncio.Protocol):
    """One end of a socket. Messages of one turn of the loop travel together, in the order in which they were sent."""

    def __init__(self, receive: Callable[[Message], None], ended: Callable[[], None]) -> None:
        self._receive, self._ended = receive, ended
        self._transport: asyncio.Transport | None = None
        self._arriving = bytearray()
        self._leaving: list[Message] = []

    @classmethod
    async def connect(cls, end: socket.socket, receive: Callable[[Message], None], ended: Callable[[], None]) -> Link:
        """Take over one end of a socket pair; ``receive`` is called with each message, ``ended`` when it ends."""
        link = cls(receive, ended)
        await asyncio.get_running_loop().create_connection(lambda: link, sock=end)
        return link

    def send(self, *message: Any) -> None:
        """Send a message at the end of this turn of the loop; without an other end it is dropped."""
        if not self._leaving:
            asyncio.get_running_loop().call_soon(self.flush)
        self._leaving.append(message)

    def flush(self) -> None:
        """Send what waits now."""
        messages, self._leaving = self._leaving, []
        if messages and self._transport is not None and not self._transport.is_closing():
            body = pickle.dumps(messages, protocol=pickle.HIGHEST_PROTOCOL)
            self._transport.write(len(body).to_bytes(_LENGTH, "little") + body)

    def close(self) -> None:
        """Send what waits, and close this end."""
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)  # a stream's; that of uvloop is no subclass

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        arriving = self._arriving
        arriving += data
        while len(arriving) >= _LENGTH:
            end = _LENGTH + int.from_bytes(arriving[:_LENGTH], "little")
            if len(arriving) < end:
                return
            body = bytes(memoryview(arriving)[_LENGTH:end])
            del arriving[:end]
            for message in pickle.loads(body):  # noqa: S301 - from the other end of our own socket, see above
                self._receive(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        del exc
        self._transport = None
        self._ended()
