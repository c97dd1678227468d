"""An HTTP connection with the limits that uvicorn's lacks: on its number, its waiting time and its end."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from app.http.connections import refusals
from app.http.connections.door import MAX_REFUSED, Door, has_arrived
from app.http.connections.refusals import Refusal


class BoundedConnection(HttpToolsProtocol):
    """Checked every ``limits.tick`` seconds for overdue input; it refuses in the JSON shape of every error.

    A connection is in a head (``_is_in_head``; idle, or being answered, while ``_head_until`` is None) or in a body.
    One that ignores its input reads and discards it, and closes once its client has had time to read the response.
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
        self._ignores_input = self._is_reparsing = self._is_body_counted = self._is_reprieved = self._is_refused = False
        self._head_until: float | None = None
        self._bare_bytes = 0
        self._is_behind = self._is_pipelined = False
        self._body_bytes, self._body_since = 0, 0.0
        self._unsent, self._unsent_since = 0, 0.0
        self._cause: Refusal | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, or refuse it; from now on its first head is due."""
        super().connection_made(transport)
        self._head_until = self.loop.time() + self._limits.head_seconds
        self._timer = self.loop.call_later(self._limits.tick, self._look)
        refusal = self._door.enter(transport)
        if refusal is None:
            return
        self._door.notices.report(refusal, self._client_address())
        self._ignores_input = True
        if self._door.refused >= MAX_REFUSED:
            transport.close()
            return
        self._door.refused += 1
        self._is_refused = True
        self._answer(refusal)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release its counts and timers."""
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

    # Overdue input, and output that the client does not read

    def _look(self) -> None:
        self._timer = self.loop.call_later(self._limits.tick, self._look)
        late = self._late(self.loop.time())
        if late is None:
            self._is_reprieved = False
        elif late is refusals.STALLED:
            self._door.notices.report(late, self._client_address())
            self.transport.abort()
        elif not self._is_reprieved and has_arrived(self.transport):
            # The event loop was blocked, not the client: its input is read after this.
            self._is_reprieved = True
        elif late is refusals.SILENT:
            # Without a response: a browser that connects ahead would take it for that of its next request.
            self._door.notices.report(late, self._client_address())
            self.transport.close()
        else:
            self._refuse(late)

    def _late(self, timestamp: float) -> Refusal | None:
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0 or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, timestamp
        elif timestamp - self._unsent_since > self._limits.body_seconds:
            return refusals.STALLED
        if self._ignores_input or self.transport.is_closing():
            return None
        if self._is_in_head:
            if self._head_until is None or timestamp <= self._head_until:
                return None
            return refusals.SILENT if self._is_silent else refusals.SLOW_HEAD
        # While the application does not read the body, or has not asked for it, the client is not late.
        is_held = self.flow.read_paused or (self.cycle.waiting_for_100_continue and not self.cycle.response_complete)
        if is_held or self._body_bytes >= self._limits.step_bytes:
            self._body_bytes, self._body_since = 0, timestamp
        return refusals.SLOW_BODY if timestamp - self._body_since > self._limits.body_seconds else None

    # Closing

    def _refuse(self, refusal: Refusal) -> None:
        """Respond in place of the application, where no response has begun, and close."""
        if self._ignores_input:
            return
        self._door.notices.report(refusal, self._client_address())
        self._ignores_input = True
        self._release_body()
        cycle = self.cycle
        if cycle is None or (self._is_in_head and cycle.response_complete):
            self._answer(refusal)
        elif self._is_in_head:
            # Earlier requests still get their responses, in order; then it closes.
            cycle.keep_alive = False
        else:
            self._refuse_rest(cycle, refusal)

    def _refuse_rest(self, cycle: RequestResponseCycle, refusal: Refusal) -> None:
        """Refuse the rest of a request whose head the application has; to it the client seems disconnected."""
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
        self.transport.write(refusal.to_http(self.server_state.default_headers))
        self._linger()

    def _linger(self) -> None:
        """End the output, and read on for a while: closing at once would reset, and the response would be lost."""
        self._ignores_input = True
        self._unset_keepalive_if_required()
        if self.transport.is_closing():
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(self._limits.linger_seconds, self.transport.close)

    def retire(self) -> bool:
        """Close an idle connection, unless its next request has just arrived; return whether it was closed."""
        if has_arrived(self.transport):
            return False
        self.transport.close()
        return True

    def timeout_keep_alive_handler(self) -> None:
        """Close after the keep-alive timeout, unless the next request has just arrived."""
        if not self.transport.is_closing():
            self.retire()

    def shutdown(self) -> None:
        """Close because the server stops: requests that have begun to arrive are still served, as the last."""
        self._door.is_draining = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        elif self._ignores_input or not self._is_in_head or self.transport.is_closing():
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
                # The server cancels when the time to finish is over. uvicorn would log a traceback.
                if not self._door.is_draining:
                    raise
                self._refuse_rest(cycle, refusals.STOPPING)

        super()._start_asgi_task(cycle, run)

    def _client_address(self) -> str:
        return self.client[0] if self.client else "an unknown address"
