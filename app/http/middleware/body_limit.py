"""Limits on bodies: refused by their Content-Length before a byte is read, or as soon as they grow too large.

The server's ledger of memory counts received bytes until the response: see `app.resources.memory`.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import BusyError, TooLargeError
from app.http.responses.errors import error_response
from app.resources.memory import Account, Ledger

ACCOUNT = "renorm.memory"
"""The entry of a call's scope that holds its account."""

BODIES, FRAMES = "bodies", "frames"
"""The kinds of memory of bodies, with the objects made of them, and of frames of live connections."""


class BodyLimit:
    """ASGI middleware that refuses bodies of more than ``max_bytes`` bytes, and those that ``ledger`` has no room for.

    Starlette has such a middleware since 1.0, but it responds in plain text, and in place of the application.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, ledger: Ledger | None = None) -> None:
        self.app, self.max_bytes, self._ledger = app, max_bytes, ledger or Ledger(2 * max_bytes, max_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with self._ledger.open(BODIES) as account:
            scope[ACCOUNT] = account
            try:
                self._check(_declared(scope), account)
            except (TooLargeError, BusyError) as error:
                # The connection stays open: the server discards the rest of the body, so that clients which read the
                # response only after sending all of it can read it.
                await error_response(error, scope)(scope, receive, send)
                return
            await self.app(scope, self._counted(receive, account), send)

    def _check(self, declared: str, account: Account) -> None:
        if not declared.isdecimal():
            return
        if len(declared) > 18 or int(declared) > self.max_bytes:
            raise self._refusal()
        # Checked but not taken: otherwise clients that declare much and send nothing would keep others out.
        account.check(int(declared))

    def _counted(self, receive: Receive, account: Account) -> Receive:
        """Count bytes as they arrive: chunked bodies declare no length, and others may never arrive."""
        received = 0

        async def counting() -> Message:
            nonlocal received
            message = await receive()
            size = len(message.get("body", b""))
            received += size
            if received > self.max_bytes:
                raise self._refusal()
            account.take(size)
            return message

        return counting

    def _refusal(self) -> TooLargeError:
        return TooLargeError(
            f"the body is too large, at most {self.max_bytes} bytes are accepted",
            hint="send fewer images at once, or raise RENORM_MAX_BODY_BYTES",
            location="body",
        )


def _declared(scope: Scope) -> str:
    """Return the Content-Length header, empty without one."""
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"content-length"), "")


def account_of(scope: Scope) -> Account:
    """Return the account of a call, for the objects made of its body; on a server it ends with the call."""
    account: Account | None = scope.get(ACCOUNT)
    return Ledger(2**62, 2**62).open(BODIES) if account is None else account
