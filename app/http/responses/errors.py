"""The one table from exception to HTTP status, and the one shape that every error has on the wire."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from http.client import responses as phrases
from typing import Any, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from adapters import CombinationError, ParameterError, UnknownStrategyError, UnsupportedModelError
from app.errors import (
    AccessError,
    BusyError,
    DeadlineError,
    EngineClosedError,
    FieldError,
    ImageError,
    MediaTypeError,
    MissingKeyError,
    ModelNotFoundError,
    RenormError,
    StrategyNotFoundError,
    StreamBusyError,
    StreamNotFoundError,
    TooExpensiveError,
    TooLargeError,
    UnanswerableError,
    UnsupportedError,
)
from app.http.responses.error_page import error_page, prefers_page

LONGEST = 1000
"""Characters of a message: an error may quote its cause, but must not send a whole body back."""


class Row(NamedTuple):
    """How one type of exception is answered. ``where`` is said when the exception itself does not know."""

    status: int
    code: str
    location: str = ""
    headers: Mapping[str, str] | None = None


TABLE: dict[type[Exception], Row] = {
    ImageError: Row(422, "unreadable_image"),
    TooLargeError: Row(413, "too_large"),
    TooExpensiveError: Row(422, "image_too_expensive"),
    FieldError: Row(422, "invalid_field"),
    MediaTypeError: Row(415, "unsupported_media_type"),
    StreamNotFoundError: Row(404, "stream_not_found"),
    StrategyNotFoundError: Row(404, "strategy_not_found"),
    ModelNotFoundError: Row(404, "model_not_found"),
    UnsupportedError: Row(501, "unsupported"),
    MissingKeyError: Row(401, "missing_key", headers={"WWW-Authenticate": "Bearer"}),
    AccessError: Row(403, "forbidden"),
    UnanswerableError: Row(422, "not_finite"),
    BusyError: Row(503, "busy"),
    StreamBusyError: Row(429, "stream_busy", location="stream"),
    DeadlineError: Row(504, "deadline"),
    EngineClosedError: Row(503, "unavailable", headers={"Retry-After": "1"}),
    UnknownStrategyError: Row(422, "unknown_strategy", location="strategy"),
    ParameterError: Row(422, "invalid_parameter", location="params"),
    CombinationError: Row(422, "invalid_strategy", location="strategy"),
    # Once a model is hosted, only what a strategy asks of it can be missing.
    UnsupportedModelError: Row(422, "unsupported_strategy", location="strategy"),
    RequestValidationError: Row(422, "invalid_field"),
    ClientDisconnect: Row(400, "client_disconnected"),  # nobody reads it, but nobody must log a traceback either
}

_INTERNAL = Row(500, "internal")
_DOCS = "GET /docs shows every call, GET /openapi.json describes them to programs"


def answer(error: Exception, asked: str = "") -> JSONResponse:
    """The response that ``error`` becomes; ``asked`` is the request's method and path, for messages about them."""
    row = _row(error)
    message, hint, location = _said(error, asked)
    message = f"{message}; {hint}" if hint else message
    body, headers = wire(message, row.code, location or row.location), dict(row.headers or {})
    if isinstance(error, BusyError):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    return JSONResponse(body, row.status, headers)


def reply(error: Exception, scope: Scope) -> Response:
    """The response to the call of that ASGI scope: as `answer`, or as a page where a browser asks for one."""
    method = scope.get("method", "GET")
    asked = f"{method} {scope['path']}"
    if isinstance(error, HTTPException) and error.status_code == 405:
        error = HTTPException(405, error.detail, {"Allow": _allowed(scope, (error.headers or {}).get("Allow", ""))})
    plain = answer(error, asked)
    if plain.status_code == 422 and scope["path"].startswith("/v2/"):
        plain.status_code = 400  # the Open Inference Protocol has one status for all wrong arguments
    if scope["type"] != "http" or method != "GET" or not prefers_page(Headers(scope=scope).get("accept", "")):
        return plain
    message, hint, _ = _said(error, asked)
    headers = {name: value for name, value in plain.headers.items() if not name.startswith("content-")}
    root = scope.get("root_path", "")
    return error_page(plain.status_code, _clean(message), _clean(hint), root=root, headers=headers)


def _allowed(scope: Scope, first: str) -> str:
    """All methods of a path; the router tells those of its ``first`` route alone."""
    methods = set(filter(None, first.split(", ")))
    for path, operations in scope["app"].openapi()["paths"].items():
        if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", path), scope["path"]):
            methods |= {method.upper() for method in operations}
    return ", ".join(sorted(methods))


def wire(message: str, code: str, location: str = "") -> dict[str, Any]:
    """The shape of an error: ``where`` is left out when it is unknown."""
    said = {"error": _clean(message), "code": code}
    return {**said, "where": _clean(location)} if location else said


def install(app: FastAPI) -> None:
    """Answer every exception of this application by the table.

    Any other exception becomes a 500 that tells nothing; Starlette then raises it again, so that the ASGI server logs
    the traceback.
    """

    async def handle(request: Request, error: Exception) -> Response:
        return reply(error, request.scope)

    for kind in (*TABLE, HTTPException, Exception):
        app.add_exception_handler(kind, handle)


def _row(error: Exception) -> Row:
    if isinstance(error, HTTPException):
        phrase = phrases.get(error.status_code, "error")
        return Row(error.status_code, phrase.lower().replace(" ", "_"), headers=error.headers)
    return next((TABLE[kind] for kind in type(error).__mro__ if kind in TABLE), _INTERNAL)


def _said(error: Exception, asked: str) -> tuple[str, str, str]:
    """Message, hint and place of an error that is in the table; of any other nothing leaks."""
    if isinstance(error, RequestValidationError):
        wrong = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        return "; ".join(wrong), _DOCS, ""
    if isinstance(error, HTTPException):
        allowed = (error.headers or {}).get("Allow")
        return f"{asked}: {error.detail}{f', use {allowed}' if allowed else ''}", _DOCS, ""
    if _row(error) is _INTERNAL:
        return "internal error", "the server's log tells more", ""
    if isinstance(error, RenormError):
        return error.message, error.hint, error.location
    return str(error) or type(error).__name__, "", ""


def _clean(text: str) -> str:
    """Text that UTF-8 can carry (a client may have sent half a surrogate pair), and not too much of it."""
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
