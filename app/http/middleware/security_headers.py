"""Security headers for browsers, and CORS."""

from __future__ import annotations

import base64
import hashlib
import re

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.settings import Settings

_PAGE = {"Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"}
_INLINE = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def install(app: FastAPI, settings: Settings) -> None:
    """Add the headers, and allow calls from pages of the listed origins only.

    Middleware that compresses responses has to come after this, which reads a page's scripts.
    """
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    app.add_middleware(SecurityHeaders)


def page_policy(page: bytes) -> str:
    """Return the Content-Security-Policy of a page: its inline scripts and this server's files, and nothing else.

    Styles may be inline, because Swagger UI and ReDoc write theirs while they run; ReDoc searches in a worker that it
    makes of a blob. Scripts may not: each of the page's is named by its hash.
    """
    hashes = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in _INLINE.findall(page)]
    scripts = " ".join(["'self'", *(f"'sha256-{digest}'" for digest in hashes)])
    rules = {
        "default-src": "'self'",
        "script-src": scripts,
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "worker-src": "'self' blob:",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


class SecurityHeaders:
    """ASGI middleware that forbids MIME sniffing and restricts pages by a Content-Security-Policy."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on and add the headers to its response."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await self.app(scope, receive, _HeaderSender(send).send)


class _HeaderSender:
    """Sends a response. A page is buffered until it is complete, because its policy names its scripts."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.setdefault("X-Content-Type-Options", "nosniff")
            if headers.get("content-type", "").startswith("text/html"):
                self._start = message
                return
        elif self._start is not None and message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if message.get("more_body", False):
                return
            await self._send_page(self._start)
            return
        await self._send(message)

    async def _send_page(self, start: Message) -> None:
        self._start = None
        headers = MutableHeaders(scope=start)
        for name, value in _PAGE.items():
            headers.setdefault(name, value)
        headers.setdefault("Content-Security-Policy", page_policy(bytes(self._body)))
        await self._send(start)
        await self._send({"type": "http.response.body", "body": bytes(self._body)})
