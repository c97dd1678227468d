"""The limits on bodies: refused by their declared length before a byte is read, or as soon as they grow past it.

All that is received is on the server's account of memory, until it is answered: see `app.resources.memory`.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import BusyError, TooLargeError
from app.http.responses.errors import answer
from app.resources.memory import Account, Ledger

ACCOUNT = "renorm.memory"
"""Where a call's scope has its account."""

BODIES, FRAMES = "bodies", "frames"
"""The kinds of memory that bodies take, with what is made of them, and the frames of live connections."""


class BodyLimit:
    """ASGI middleware that lets no body of more than ``most`` bytes through, nor one that ``ledger`` has no room for.

    Starlette has such a middleware since 1.0, but it answers in plain text, in place of whatever the application says.
    """

    def __init__(self, app: ASGIApp, most: int, ledger: Ledger | None = None) -> None:
        self.app, self.most, self._ledger = app, most, ledger or Ledger(2 * most, most)

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
                # answer only after sending all of it get to see it.
                await answer(error)(scope, receive, send)
                return
            await self.app(scope, self._counted(receive, account), send)

    def _check(self, declared: str, account: Account) -> None:
        if not declared.isdecimal():
            return
        if len(declared) > 18 or int(declared) > self.most:
            raise self._refusal()
        # Looked at, but not taken: else who declares much and sends nothing would keep others out.
        account.check(int(declared))

    def _counted(self, receive: Receive, account: Account) -> Receive:
        """Count as it comes, because chunked bodies declare no length, and others may never come."""
        seen = 0

        async def counting() -> Message:
            nonlocal seen
            message = await receive()
            size = len(message.get("body", b""))
            seen += size
            if seen > self.most:
                raise self._refusal()
            account.take(size)
            return message

        return counting

    def _refusal(self) -> TooLargeError:
        return TooLargeError(
            f"the body is too large, at most {self.most} bytes are accepted",
            hint="send fewer images at once, or raise RENORM_MAX_BODY_BYTES",
            location="body",
        )


def _declared(scope: Scope) -> str:
    """What the head says of the body's length, empty where it says nothing."""
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"content-length"), "")


def account_of(scope: Scope) -> Account:
    """The account of a call, for what is made of its body: on a server it has one, which ends with the call."""
    account: Account | None = scope.get(ACCOUNT)
    return Ledger(2**62, 2**62).open(BODIES) if account is None else account
