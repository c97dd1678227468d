"""The course of a call: send, wait, send again, read. Steps that clients with and without await take."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, NamedTuple, TypeAlias, TypeVar

import httpx

from app.client import calls
from app.client.calls import Ask
from app.client.errors import ServerUnreachable
from app.client.responses import read, unreachable
from app.client.retrying import pause_before_retry

T = TypeVar("T")

POLL_S = 0.2
"""Seconds between two questions whether the server is ready."""


class Send(NamedTuple):
    """Wait ``after`` seconds, then send; the reply is a response, or the error that kept it away."""

    ask: Ask[Any]
    after: float = 0.0


Reply: TypeAlias = httpx.Response | httpx.RequestError
Steps: TypeAlias = Generator[Send, Reply, T]


def exchange(ask: Ask[T], server: str, retries: int) -> Steps[T]:
    """Send until there is a reply that another try would not better, at most ``retries`` times more.

    Raises:
        Refused: the server said no.
        ServerUnreachable: no try was answered.
        UnexpectedAnswer: what answered is not a Renorm server.
    """
    reply = yield Send(ask)
    for attempt in range(retries):
        pause = pause_before_retry(reply, attempt, repeatable=ask.repeatable)
        if pause is None:
            break
        reply = yield Send(ask, pause)
    if isinstance(reply, httpx.RequestError):
        raise unreachable(reply, server) from reply
    return read(ask, reply, server)


def is_ready() -> Steps[bool]:
    """Ask once whether the model answers; where nothing answers, it does not."""
    reply = yield Send(calls.ready())
    return _says_ready(reply)


def until_ready(server: str, timeout: float) -> Steps[None]:
    """Ask until the model answers.

    Raises:
        ServerUnreachable: it did not within ``timeout`` seconds.
    """
    end = time.monotonic() + timeout
    reply = yield Send(calls.ready())
    while not _says_ready(reply):
        if time.monotonic() + POLL_S > end:
            said = reply.text[:200] if isinstance(reply, httpx.Response) else str(unreachable(reply, server))
            raise ServerUnreachable(f"the server at {server} is not ready after {timeout:g} s: {said}")
        reply = yield Send(calls.ready(), POLL_S)


def _says_ready(reply: Reply) -> bool:
    return isinstance(reply, httpx.Response) and reply.status_code == httpx.codes.OK
