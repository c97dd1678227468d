"""The one table from the statuses of the HTTP door, where exceptions have theirs, to gRPC's codes."""

from __future__ import annotations

import logging
from typing import NoReturn

import grpc
import orjson

from app.http.responses.errors import answer

log = logging.getLogger("renorm")

CODES: dict[int, grpc.StatusCode] = {
    **dict.fromkeys((400, 415, 422), grpc.StatusCode.INVALID_ARGUMENT),
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    **dict.fromkeys((413, 429), grpc.StatusCode.RESOURCE_EXHAUSTED),
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}

CODE, WHERE, RETRY = "renorm-code", "renorm-where", "retry-after"
"""Trailing metadata of an error: what `code`, `where` and ``Retry-After`` are over HTTP."""


async def refuse(context: grpc.aio.ServicerContext, error: Exception) -> NoReturn:
    """End a call with the code of ``error`` and the text that it has over HTTP."""
    response = answer(error)
    if response.status_code == 500:
        # Nobody above sees it, and its client is told nothing.
        log.error("a gRPC call failed", exc_info=error)
    said = orjson.loads(response.body)
    about = [(CODE, said["code"])]
    if "where" in said:
        # Metadata is printable ASCII; a client may have called a parameter anything.
        about.append((WHERE, said["where"].encode("unicode_escape").decode("ascii")))
    if RETRY in response.headers:
        about.append((RETRY, response.headers[RETRY]))
    await context.abort(CODES[response.status_code], said["error"], tuple(about))
    raise AssertionError("abort raises")
