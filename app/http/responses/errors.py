"""Errors as HTTP responses: JSON, or a page where a browser asks for one."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from http.client import responses as phrases

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from app.error_info import ErrorInfo
from app.error_table import TABLE, describe_error
from app.http.responses.error_page import error_page, prefers_page

log = logging.getLogger("renorm")

_DOCS = "see GET /docs, or GET /openapi.json for programs"


def install(app: FastAPI) -> None:
    """Respond to every exception of this application with `error_response`.

    Starlette then raises an exception that is not in the table again, so that the ASGI server logs the traceback.
    """

    async def handle(request: Request, error: Exception) -> Response:
        return error_response(error, request.scope)

    for kind in (*TABLE, RequestValidationError, ClientDisconnect, HTTPException, Exception):
        app.add_exception_handler(kind, handle)


def error_response(error: Exception, scope: Scope) -> Response:
    """Return the response to an error in the call of that ASGI scope."""
    info = _describe_http_error(error, scope)
    if info.status == 422 and scope["path"].startswith("/v2/"):
        info = replace(info, status=400)  # the Open Inference Protocol has one status for all wrong arguments
    if scope.get("method") == "GET" and prefers_page(Headers(scope=scope).get("accept", "")):
        response: Response = error_page(info, scope.get("root_path", ""))
    else:
        response = json_response(info)
    if isinstance(error, HTTPException) and not info.allow:
        response.headers.update(error.headers or {})
    return response


def json_response(info: ErrorInfo, **members: object) -> JSONResponse:
    """Return an error as JSON, with further ``members``."""
    return JSONResponse({**info.members(), **members}, info.status, info.headers)


def error_to_json(error: Exception) -> bytes:
    """Return an error as JSON for a client that stays connected.

    Nothing above the caller sees the error, so an internal one is logged here.
    """
    info = describe_error(error)
    if info.status == 500:
        log.error("a request failed", exc_info=error)
    return info.to_json()


def _describe_http_error(error: Exception, scope: Scope) -> ErrorInfo:
    """Return the content of the response to an exception of the framework or of ours."""
    if isinstance(error, RequestValidationError):
        problems = [f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors()]
        return ErrorInfo(422, "invalid_field", "; ".join(problems), _DOCS)
    if isinstance(error, ClientDisconnect):  # nobody reads the response, but nobody must log a traceback either
        return ErrorInfo(400, "client_disconnected", "the client disconnected")
    if not isinstance(error, HTTPException):
        return describe_error(error)
    code = phrases.get(error.status_code, "error").lower().replace(" ", "_")
    allowed = _allowed(scope, (error.headers or {}).get("Allow", "")) if error.status_code == 405 else ""
    detail = f"{error.detail}, use {allowed}" if allowed else error.detail
    message = f"{scope.get('method', 'GET')} {scope['path']}: {detail}"
    return ErrorInfo(error.status_code, code, message, _DOCS, allow=allowed)


def _allowed(scope: Scope, first: str) -> str:
    """Return all methods of a path; the router lists those of its ``first`` route alone."""
    methods = set(filter(None, first.split(", ")))
    for path, operations in scope["app"].openapi()["paths"].items():
        if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", path), scope["path"]):
            methods |= {method.upper() for method in operations}
    return ", ".join(sorted(methods))
