"""Whether a failed try is worth another, and how long to wait before it."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
LONGEST_ASKED_S = 600.0
"""Seconds that a server may ask to wait, as long as a full queue of a slow machine takes; a call that would wait
longer ends instead."""

_NOT_BEGUN = {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}
_MAYBE_DONE = {httpx.codes.BAD_GATEWAY, httpx.codes.GATEWAY_TIMEOUT}
_NO_CONNECTION = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_BROKEN = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)


def pause_before_retry(reply: httpx.Response | httpx.RequestError, attempt: int, *, repeatable: bool) -> float | None:
    """Seconds to wait before the next try; None where there should be none. ``attempt`` counts from 0.

    Pauses double from try to try, and are drawn at random between half and all of that, so that clients which failed
    together do not come back together. A ``Retry-After`` comes on top. What is not ``repeatable`` is only sent again
    where the server cannot have begun with it.
    """
    pause = min(FIRST_PAUSE_S * 2**attempt, LONGEST_PAUSE_S) * random.uniform(0.5, 1)  # noqa: S311  # no secret
    if isinstance(reply, httpx.Response):
        statuses = _NOT_BEGUN | _MAYBE_DONE if repeatable else _NOT_BEGUN
        asked = retry_after(reply.headers.get("Retry-After", ""))
        return asked + pause if reply.status_code in statuses and asked <= LONGEST_ASKED_S else None
    return pause if isinstance(reply, _BROKEN if repeatable else _NO_CONNECTION) else None


def retry_after(said: str) -> float:
    """Seconds that a ``Retry-After`` asks for, given as a number or as a date; 0 where it says nothing readable."""
    if said.strip().isdecimal():
        return float(said)
    try:
        until = parsedate_to_datetime(said)
    except ValueError:
        return 0.0
    # A date without a zone is in UTC, which is the only one that HTTP knows.
    return max(0.0, ((until if until.tzinfo else until.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
