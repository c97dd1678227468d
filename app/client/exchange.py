"""The course of a call: connect, send, wait, retry, read; the same steps for clients with and without await."""

from __future__ import annotations

import random
import time
from collections.abc import Generator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, TypeAlias, TypeVar

import httpx

from app import __version__
from app.client import calls
from app.client.calls import ApiCall
from app.client.errors import InvalidInput, ServerUnreachable
from app.client.responses import read, unreachable

T = TypeVar("T")

POLL_S = 0.2
"""Seconds between two requests for readiness."""

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
LONGEST_RETRY_AFTER_S = 600.0
"""The longest ``Retry-After`` that is waited for, as long as a full queue of a slow machine takes; beyond it the call
fails at once."""

_NOT_BEGUN = {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}
_MAYBE_DONE = {httpx.codes.BAD_GATEWAY, httpx.codes.GATEWAY_TIMEOUT}
_NO_CONNECTION = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_BROKEN = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)


class Attempt(NamedTuple):
    """Wait ``delay`` seconds, then send ``call``; the reply is a response, or the error that prevented one."""

    call: ApiCall[Any]
    delay: float = 0.0


Reply: TypeAlias = httpx.Response | httpx.RequestError
Steps: TypeAlias = Generator[Attempt, Reply, T]


def server_address(url: str) -> str:
    """Return the server's address for messages: without the password that a URL may hold."""
    return str(httpx.URL(url).copy_with(userinfo=b"")).rstrip("/")


def client_options(url: str, key: str | None, timeout: float | None) -> dict[str, Any]:
    """Return the keyword arguments of `httpx.Client` and `httpx.AsyncClient`.

    Raises:
        InvalidInput: the URL is not valid, or the key cannot be sent in a header.
    """
    try:
        scheme = httpx.URL(url).scheme
    except httpx.InvalidURL as error:
        raise InvalidInput(f"{url!r} is not a valid URL: {error}") from error
    if scheme not in {"http", "https"}:
        raise InvalidInput(f"the URL must begin with http:// or https://, such as http://127.0.0.1:8000, not {url!r}")
    headers = {b"User-Agent": f"renorm/{__version__}".encode()}
    if key is not None:
        if not key.isprintable() or not key.strip():
            raise InvalidInput("the key is empty or contains a line break or another control character")
        # Bytes, because httpx would encode only ASCII as the server reads it.
        headers[b"Authorization"] = f"Bearer {key.strip()}".encode()
    return {"base_url": url, "headers": headers, "timeout": timeout}


def exchange(call: ApiCall[T], server: str, retries: int) -> Steps[T]:
    """Send a call, retry it at most ``retries`` times, and return its result.

    Raises:
        Refused: the server refused the request.
        ServerUnreachable: no try got a response.
        UnexpectedAnswer: the response is not that of a Renorm server.
    """
    reply = yield Attempt(call)
    for attempt in range(retries):
        pause = pause_before_retry(reply, attempt, repeatable=call.repeatable)
        if pause is None:
            break
        reply = yield Attempt(call, pause)
    if isinstance(reply, httpx.RequestError):
        raise unreachable(reply, server) from reply
    return read(call, reply, server)


def is_ready() -> Steps[bool]:
    """Ask for readiness once; false where no server answers."""
    reply = yield Attempt(calls.ready())
    return _is_ready_reply(reply)


def until_ready(server: str, timeout: float) -> Steps[None]:
    """Ask until the model answers.

    Raises:
        ServerUnreachable: it did not within ``timeout`` seconds.
    """
    end = time.monotonic() + timeout
    reply = yield Attempt(calls.ready())
    while not _is_ready_reply(reply):
        if time.monotonic() + POLL_S > end:
            text = reply.text[:200] if isinstance(reply, httpx.Response) else str(unreachable(reply, server))
            raise ServerUnreachable(f"the server at {server} is not ready after {timeout:g} s: {text}")
        reply = yield Attempt(calls.ready(), POLL_S)


def _is_ready_reply(reply: Reply) -> bool:
    return isinstance(reply, httpx.Response) and reply.status_code == httpx.codes.OK


def pause_before_retry(reply: Reply, attempt: int, *, repeatable: bool) -> float | None:
    """Return the seconds to wait before a retry, or None where there should be none. ``attempt`` counts from 0.

    Pauses double from try to try, and are drawn at random between half and all of that, so that clients which failed
    together do not come back together. A ``Retry-After`` is added. A request that is not ``repeatable`` is sent again
    only where the server cannot have begun with it.
    """
    pause = min(FIRST_PAUSE_S * 2**attempt, LONGEST_PAUSE_S) * random.uniform(0.5, 1)  # noqa: S311  # no secret
    if isinstance(reply, httpx.Response):
        statuses = _NOT_BEGUN | _MAYBE_DONE if repeatable else _NOT_BEGUN
        delay = retry_after(reply.headers.get("Retry-After", ""))
        return delay + pause if reply.status_code in statuses and delay <= LONGEST_RETRY_AFTER_S else None
    return pause if isinstance(reply, _BROKEN if repeatable else _NO_CONNECTION) else None


def retry_after(header: str) -> float:
    """Return the seconds of a ``Retry-After`` header, a number or a date; 0 where it is neither."""
    if header.strip().isdecimal():
        return float(header)
    try:
        until = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    # A date without a zone is in UTC, which is the only one that HTTP knows.
    return max(0.0, ((until if until.tzinfo else until.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
