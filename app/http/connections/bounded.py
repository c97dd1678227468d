"""One HTTP connection with bounds, which uvicorn's has not: who may have it, how long it waits, and how it ends."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from app.http.connections import refusals
from app.http.connections.door import MOST_REFUSED, Door, has_arrived
from app.http.connections.refusals import Refusal


class BoundedConnection(HttpToolsProtocol):
    """It is looked at every ``limits.tick`` seconds for what does not arrive, and refuses in the shape of every error.

    A connection is in a head (``_is_in_head``; idle, or being answered, while ``_head_until`` is None) or in a body.
    One that is deaf reads on and heeds nothing: it closes once its client has had the time to see the answer.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        door: Door,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._door, self._limits = door, door.limits
        self._is_in_head = self._is_silent = True
        self._is_deaf = self._is_retold = self._is_body_counted = self._is_reprieved = self._is_refused = False
        self._head_until: float | None = None
        self._bare_bytes = 0
        self._is_behind = self._is_pipelined = False
        self._body_bytes, self._body_since = 0, 0.0
        self._unsent, self._unsent_since = 0, 0.0
        self._cause: Refusal | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it, or refuse it; from now on its first head is due."""
        super().connection_made(transport)
        self._head_until = self.loop.time() + self._limits.head_seconds
        self._timer = self.loop.call_later(self._limits.tick, self._look)
        refusal = self._door.enter(transport)
        if refusal is None:
            return
        self._door.notices.say(refusal, self._who())
        self._is_deaf = True
        if self._door.refused >= MOST_REFUSED:
            transport.close()
            return
        self._door.refused += 1
        self._is_refused = True
        self._answer(refusal)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give back what it held."""
        self._door.leave(self.transport)
        if self._is_refused:
            self._door.refused -= 1
        self._forget()
        super().connection_lost(exc)

    def _release_body(self) -> None:
        self._door.bodies -= self._is_body_counted
        self._is_body_counted = False

    def _forget(self) -> None:
        self._release_body()
        self._door.idle.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What does not arrive, and what is not taken

    def _look(self) -> None:
        self._timer = self.loop.call_later(self._limits.tick, self._look)
        late = self._late(self.loop.time())
        if late is None:
            self._is_reprieved = False
        elif late is refusals.STALLED:
            self._door.notices.say(late, self._who())
            self.transport.abort()
        elif not self._is_reprieved and has_arrived(self.transport):
            # The event loop was held up, not the client: what it sent is read after this.
            self._is_reprieved = True
        elif late is refusals.SILENT:
            # Without an answer: a browser that connects ahead would take it for that to its next request.
            self._door.notices.say(late, self._who())
            self.transport.close()
        else:
            self._refuse(late)

    def _late(self, now: float) -> Refusal | None:
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0 or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        elif now - self._unsent_since > self._limits.body_seconds:
            return refusals.STALLED
        if self._is_deaf or self.transport.is_closing():
            return None
        if self._is_in_head:
            if self._head_until is None or now <= self._head_until:
                return None
            return refusals.SILENT if self._is_silent else refusals.SLOW_HEAD
        # A body that the application does not read, or has not asked for, is not the client's to send.
        is_held = self.flow.read_paused or (self.cycle.waiting_for_100_continue and not self.cycle.response_complete)
        if is_held or self._body_bytes >= self._limits.step_bytes:
            self._body_bytes, self._body_since = 0, now
        return refusals.SLOW_BODY if now - self._body_since > self._limits.body_seconds else None

    # How it ends

    def _refuse(self, refusal: Refusal) -> None:
        """Answer in place of the application, where nothing has been answered yet, and close."""
        if self._is_deaf:
            return
        self._door.notices.say(refusal, self._who())
        self._is_deaf = True
        self._release_body()
        cycle = self.cycle
        if cycle is None or (self._is_in_head and cycle.response_complete):
            self._answer(refusal)
        elif self._is_in_head:
            # Earlier requests are still answered, in their order; then it closes.
            cycle.keep_alive = False
        else:
            self._refuse_rest(cycle, refusal)

    def _refuse_rest(self, cycle: RequestResponseCycle, refusal: Refusal) -> None:
        """Of a request whose head has been handed on: to the application it looks as if the client had gone."""
        is_answered, is_first = cycle.response_started, not self.pipeline
        cycle.disconnected = True
        cycle.message_event.set()
        if self.transport.is_closing():
            return
        if not is_first or (is_answered and not cycle.response_complete):
            self.transport.close()
        elif is_answered:
            self._linger()
        else:
            self._answer(refusal)

    def _answer(self, refusal: Refusal) -> None:
        self.transport.write(refusal.wire(self.server_state.default_headers))
        self._linger()

    def _linger(self) -> None:
        """End what is sent, and go on reading a while: closing at once would reset, and the answer would be lost."""
        self._is_deaf = True
        self._unset_keepalive_if_required()
        if self.transport.is_closing():
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(self._limits.linger_seconds, self.transport.close)

    def retire(self) -> bool:
        """Close an idle connection, unless its next request has just arrived; whether it was closed."""
        if has_arrived(self.transport):
            return False
        self.transport.close()
        return True

    def timeout_keep_alive_handler(self) -> None:
        """It has been idle for long enough; also when the next request came in that moment, which is then answered."""
        if not self.transport.is_closing():
            self.retire()

    def shutdown(self) -> None:
        """The server stops: what has begun to arrive is still taken, and told that it was the last."""
        self._door.is_draining = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        elif self._is_deaf or not self._is_in_head or self.transport.is_closing():
            self.transport.close()
        elif (self._head_until is not None and not self._is_silent) or has_arrived(self.transport):
            self.loop.call_later(self._limits.grace_seconds, self._stop)
        else:
            self.transport.close()

    def _stop(self) -> None:
        is_waiting = self.cycle is None or self.cycle.response_complete
        if not self.transport.is_closing() and self._is_in_head and is_waiting:
            if self._head_until is None or self._is_silent:
                self.transport.close()
            else:
                self._refuse(refusals.STOPPING)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        async def run(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
            try:
                await app(scope, receive, send)
            except asyncio.CancelledError:
                # The one who cancels is the server, when the time to finish is over. uvicorn would log a traceback.
                if not self._door.is_draining:
                    raise
                self._refuse_rest(cycle, refusals.STOPPING)

        super()._start_asgi_task(cycle, run)

    def _who(self) -> str:
        return self.client[0] if self.client else "an unknown address"
