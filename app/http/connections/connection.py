"""Input of a connection: heads, bodies and the lines between, all of bounded size."""

from __future__ import annotations

import httptools

from app.http.connections import refusals
from app.http.connections.bounded import BoundedConnection

_FRAMING = {b"content-length", b"transfer-encoding"}


class Connection(BoundedConnection):
    """A connection that counts bytes before it parses them."""

    # Callbacks of the transport

    def data_received(self, data: bytes) -> None:
        """Parse the data, of a head no more than the limit."""
        if self._ignores_input:
            return
        self._unset_keepalive_if_required()
        self._is_silent = self._is_behind = False
        if self._head_until is None and self._is_in_head:
            self._begin_head()
        max_bytes = self._limits.head_bytes
        while data and not self._ignores_input:
            room = max_bytes - self._bare_bytes if self._is_in_head else len(data)
            if room <= 0:
                self._refuse(refusals.HEAD_TOO_LARGE)
                return
            piece, data = (data, b"") if room >= len(data) else (data[:room], data[room:])
            self._bare_bytes += len(piece)
            data = self._parse(piece) + data
            # In a body these are the lines between its parts, and those behind it.
            if self._bare_bytes > max_bytes:
                self._refuse(refusals.HEAD_TOO_LARGE)
        if not self._is_in_head and not self._ignores_input and not self._is_body_counted:
            self._count_body()

    def _parse(self, piece: bytes) -> bytes:
        """Feed the parser, and return the bytes that it left unread."""
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserError:
            self._refuse(self._cause or refusals.MALFORMED)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self._ignores_input = True
                self._forget()
                self.handle_websocket_upgrade()
                return b""
            self._pass_over_upgrade()
            return piece[upgrade.args[0] :]
        return b""

    def _pass_over_upgrade(self) -> None:
        """Continue with HTTP/1.1, as a server may when it is offered another protocol (h2c, by `curl --http2`).

        The parser has stopped there, so a new one gets the headers that frame the body.
        """
        framing = [b"%s: %s\r\n" % pair for pair in self.headers if pair[0] in _FRAMING]
        self.parser = httptools.HttpRequestParser(self)
        request_head = self.url, self.headers
        self.url, self.headers, self._is_reparsing = b"", [], True
        try:
            self.parser.feed_data(b"".join([b"POST / HTTP/1.1\r\n", *framing, b"\r\n"]))
        finally:
            (self.url, self.headers), self._is_reparsing = request_head, False

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        """Start the time of a head."""
        if self._is_reparsing:
            return
        super().on_message_begin()
        self._is_pipelined = self._is_behind
        if self._head_until is None:
            self._begin_head()

    def on_headers_complete(self) -> None:
        """Check a complete head, and pass the request on."""
        if self._is_reparsing:
            return
        self._check_head()
        previous_cycle = self.cycle
        super().on_headers_complete()
        self._is_in_head, self._head_until = False, None
        self._bare_bytes = self._body_bytes = 0
        self._body_since = self.loop.time()
        if self._door.is_draining and self.cycle is not previous_cycle:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Count and pass on a part of the body."""
        self._bare_bytes = 0
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request, unless the parser takes the body for another protocol and only the head is complete."""
        if self.parser.should_upgrade() and not self._should_upgrade():
            return
        if len(self.headers) > self._limits.head_lines:
            self._cause = refusals.TOO_MANY_LINES
            raise ValueError(self._cause.kind)
        super().on_message_complete()
        self._end_message()

    def on_response_complete(self) -> None:
        """End a response: the connection is idle, or continues with what has arrived meanwhile."""
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None and self._is_in_head and self._head_until is None:
            self._door.idle[self] = None
        elif self._head_until is not None:
            self._unset_keepalive_if_required()  # the next head has begun, which has a time of its own

    def _begin_head(self) -> None:
        self._head_until = self.loop.time() + self._limits.head_seconds
        self._door.idle.pop(self, None)

    def _end_message(self) -> None:
        self._is_in_head, self._head_until, self._bare_bytes = True, None, 0
        self._is_behind = True
        self._release_body()

    def _check_head(self) -> None:
        limits, cause = self._limits, None
        if len(self.headers) > limits.head_lines:
            cause = refusals.TOO_MANY_LINES
        elif self._is_pipelined and self._size_of_head() > limits.head_bytes:
            cause = refusals.HEAD_TOO_LARGE  # its beginning came behind another request, and was not counted
        elif len(self.pipeline) >= limits.pipelined:
            cause = refusals.PIPELINED
        if cause is not None:
            self._cause = cause
            raise ValueError(cause.kind)  # which ends the parser

    def _size_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _count_body(self) -> None:
        if self._door.bodies >= self._limits.bodies:
            self._refuse(refusals.TOO_MANY_BODIES)
            return
        self._door.bodies += 1
        self._is_body_counted = True
