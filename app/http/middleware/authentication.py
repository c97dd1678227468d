"""API keys: the middleware that checks them before all routes, and their OpenAPI description."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from app.auth.access import Access, presented_keys, required_scope
from app.auth.keys import ApiKey, KeyScope
from app.errors import AccessError
from app.http.requests.caller import remember_key
from app.http.responses.errors import error_response
from app.http.responses.openapi import error_responses
from app.server_state import state_of

_SCHEMES: dict[str, dict[str, str]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "a key created by `renorm key new`, or RENORM_ADMIN_KEY",
    },
    "header": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "the same key in the header X-API-Key",
    },
}


_READING = {"GET", "HEAD", "OPTIONS"}


def check_stream_access(
    scope: Scope, stream: str | None, *, need: Literal["infer", "admin"] = "infer", forgets: bool = False
) -> None:
    """Refuse a call whose key does not cover that stream, see `app.auth.access.Access.check_stream`.

    Raises:
        AccessError: the key covers other streams, or may not forget a stream.
    """
    keys = presented_keys(scope["headers"])
    state_of(scope["app"]).access.check_stream(keys, stream, scope=need, forgets=forgets)


def check_key_still_valid(scope: Scope, stream: str) -> None:
    """Refuse a frame of a connection whose key has been removed or has expired since it was opened.

    Raises:
        AccessError: the key is no longer valid, or no longer for that stream.
    """
    access = state_of(scope["app"]).access
    if access.keyed:
        keys = presented_keys(scope["headers"])
        access.check("infer", keys)
        access.check_stream(keys, stream)


def check_admin(scope: Scope) -> None:
    """Refuse a call that needs scope admin on a path of scope infer, such as DELETE.

    Raises:
        AccessError: its key, or the page that sends it, is not allowed to.
    """
    _check_scope(scope, state_of(scope["app"]).access, "admin", changes=True)


def caller_of(scope: Scope) -> str:
    """Return the caller for the log: the key's name, if the server has keys, and the address."""
    access = state_of(scope["app"]).access
    names = [key.name for key in access.valid_keys(presented_keys(scope["headers"]))] if access.keyed else []
    address = scope["client"][0] if scope.get("client") else "unknown"
    return f"key '{names[0]}' from {address}" if names else str(address)


def visible_streams(scope: Scope) -> Callable[[str], bool]:
    """Return the predicate of the streams that the call's key covers."""
    access = state_of(scope["app"]).access
    keys = access.valid_keys(presented_keys(scope["headers"])) if access.keyed else None
    return lambda stream: keys is None or any(key.covers(stream) for key in keys)


class Guard:
    """ASGI middleware that authorizes calls before their body is read and before a WebSocket is accepted."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on, or refuse it."""
        if scope["type"] in {"http", "websocket"}:
            try:
                self._check(scope)
            except AccessError as error:
                await _refuse(error, scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        need = required_scope(scope["path"])
        if need is None:
            return
        key = _check_scope(scope, self.access, need, changes=scope.get("method", "GET") not in _READING)
        if key is not None:
            remember_key(scope, key.name)


def _check_scope(scope: Scope, access: Access, need: KeyScope, *, changes: bool) -> ApiKey | None:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    named = {name: value.decode("latin-1") for name, value in headers if name in {b"origin", b"host"}}
    origin, host, is_websocket = named.get(b"origin"), named.get(b"host"), scope["type"] == "websocket"
    return access.check(need, presented_keys(headers), origin, host, changes=changes, websocket=is_websocket)


async def _refuse(error: AccessError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        # Servers without that extension respond with a bare 403.
        await send({"type": "websocket.close", "code": 1008, "reason": error.message})
        return
    await error_response(error, scope)(scope, receive, send)


def install(app: FastAPI, access: Access) -> None:
    """Guard every call of the application, and describe the keys in its OpenAPI document."""
    app.add_middleware(Guard, access=access)
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _add_keys(describe(), optional=not access.keyed)
        return describe()

    # FastAPI has no other place for this: its dependencies would check each request a second time.
    app.openapi = openapi  # type: ignore[method-assign]


def _add_keys(document: dict[str, Any], *, optional: bool) -> None:
    """Describe the keys of every operation; they are ``optional`` where the server has none."""
    document.setdefault("components", {})["securitySchemes"] = _SCHEMES
    either: list[dict[str, list[str]]] = [{name: []} for name in _SCHEMES]
    for path, operations in document["paths"].items():
        if required_scope(path) is None:
            continue
        for operation in operations.values():
            operation["security"] = [{}, *either] if optional else either
            if not optional:
                operation["responses"] = _refusal_responses() | operation["responses"]


def _refusal_responses() -> dict[str, Any]:
    """Return the OpenAPI responses to calls without a key, or with a wrong one."""
    schema = {"$ref": "#/components/schemas/ErrorResponse"}
    return {
        str(status): {
            "description": response["description"],
            "content": {"application/json": {"schema": schema, **response["content"]["application/json"]}},
        }
        for status, response in error_responses(401, 403).items()
    }
