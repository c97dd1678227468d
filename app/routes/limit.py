"""The limit on bodies: refused by their declared length before a byte is read, or as soon as they grow past it."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import TooLargeError
from app.routes.errors import answer


class BodyLimit:
    """ASGI middleware that lets no body of more than ``most`` bytes through.

    Starlette has such a middleware since 1.0, but it answers in plain text, in place of whatever the application says.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > self.most):
            # The connection stays open: the server discards the rest of the body, so that clients which read the
            # answer only after sending all of it get to see it.
            await answer(self._refusal())(scope, receive, send)
            return
        await self.app(scope, self._counted(receive), send)

    def _counted(self, receive: Receive) -> Receive:
        """Chunked bodies declare no length: count as they come."""
        seen = 0

        async def counting() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.most:
                raise self._refusal()
            return message

        return counting

    def _refusal(self) -> TooLargeError:
        return TooLargeError(
            f"the body is too large, at most {self.most} bytes are accepted",
            hint="send fewer images at once, or raise RENORM_MAX_BODY_BYTES",
            where="body",
        )
