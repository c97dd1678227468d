"""The table from exceptions to HTTP statuses, and the JSON shape of every error."""

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
    """The response to one type of exception. ``location`` is the default where the exception has none."""

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
    # Once a model is hosted, only a strategy can require what it lacks.
    UnsupportedModelError: Row(422, "unsupported_strategy", location="strategy"),
    RequestValidationError: Row(422, "invalid_field"),
    ClientDisconnect: Row(400, "client_disconnected"),  # nobody reads it, but nobody must log a traceback either
}

_INTERNAL = Row(500, "internal")
_DOCS = "see GET /docs, or GET /openapi.json for programs"


def answer(error: Exception, request_line: str = "") -> JSONResponse:
    """Return the response for ``error``; ``request_line`` is the request's method and path, for messages about them."""
    row = _row(error)
    message, hint, location = _texts(error, request_line)
    message = f"{message}; {hint}" if hint else message
    body, headers = wire(message, row.code, location or row.location), dict(row.headers or {})
    if isinstance(error, BusyError):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    return JSONResponse(body, row.status, headers)


def reply(error: Exception, scope: Scope) -> Response:
    """Return the response to the call of that ASGI scope: as `answer`, or as a page where a browser asks for one."""
    method = scope.get("method", "GET")
    request_line = f"{method} {scope['path']}"
    if isinstance(error, HTTPException) and error.status_code == 405:
        error = HTTPException(405, error.detail, {"Allow": _allowed(scope, (error.headers or {}).get("Allow", ""))})
    plain = answer(error, request_line)
    if plain.status_code == 422 and scope["path"].startswith("/v2/"):
        plain.status_code = 400  # the Open Inference Protocol has one status for all wrong arguments
    if scope["type"] != "http" or method != "GET" or not prefers_page(Headers(scope=scope).get("accept", "")):
        return plain
    message, hint, _ = _texts(error, request_line)
    headers = {name: value for name, value in plain.headers.items() if not name.startswith("content-")}
    root = scope.get("root_path", "")
    return error_page(plain.status_code, _clean(message), _clean(hint), root=root, headers=headers)


def _allowed(scope: Scope, first: str) -> str:
    """Return all methods of a path; the router lists those of its ``first`` route alone."""
    methods = set(filter(None, first.split(", ")))
    for path, operations in scope["app"].openapi()["paths"].items():
        if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", path), scope["path"]):
            methods |= {method.upper() for method in operations}
    return ", ".join(sorted(methods))


def wire(message: str, code: str, location: str = "") -> dict[str, Any]:
    """Return the JSON members of an error; ``where`` is left out when it is unknown."""
    error_fields = {"error": _clean(message), "code": code}
    return {**error_fields, "where": _clean(location)} if location else error_fields


def install(app: FastAPI) -> None:
    """Handle every exception of this application by the table.

    Any other exception becomes a 500 without details; Starlette then raises it again, so that the ASGI server logs the
    traceback.
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


def _texts(error: Exception, request_line: str) -> tuple[str, str, str]:
    """Return message, hint and location of an error in the table; of any other nothing leaks."""
    if isinstance(error, RequestValidationError):
        problems = [f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors()]
        return "; ".join(problems), _DOCS, ""
    if isinstance(error, HTTPException):
        allowed = (error.headers or {}).get("Allow")
        return f"{request_line}: {error.detail}{f', use {allowed}' if allowed else ''}", _DOCS, ""
    if _row(error) is _INTERNAL:
        return "internal error", "see the server's log", ""
    if isinstance(error, RenormError):
        return error.message, error.hint, error.location
    return str(error) or type(error).__name__, "", ""


def _clean(text: str) -> str:
    """Return ``text`` as valid UTF-8 (a client may have sent half a surrogate pair), shortened to `LONGEST`."""
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
