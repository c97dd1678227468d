"""Conversion of errors to gRPC: the table from HTTP statuses, which exceptions have, to gRPC's codes."""

from __future__ import annotations

import logging
from typing import NoReturn

import grpc

from app.error_table import describe_error

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
"""Trailing metadata of an error, the counterparts of `code`, `where` and ``Retry-After`` over HTTP."""


async def refuse(context: grpc.aio.ServicerContext, error: Exception) -> NoReturn:
    """Abort a call with the gRPC code of ``error`` and the message that it has over HTTP."""
    info = describe_error(error)
    if info.status == 500:
        # Nothing above sees it, and its client gets no details.
        log.error("a gRPC call failed", exc_info=error)
    # Metadata is printable ASCII; a client may have called a parameter anything.
    location = info.location.encode("unicode_escape").decode("ascii")
    metadata = ((CODE, info.code), (WHERE, location), (RETRY, str(info.retry_after or "")))
    await context.abort(CODES[info.status], info.text, tuple(pair for pair in metadata if pair[1]))
    raise AssertionError("abort raises")
