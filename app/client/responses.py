"""Read a response: its result, or the error to raise."""

from __future__ import annotations

import re
from typing import TypeVar

import httpx
from pydantic import ValidationError

from app.client.calls import ApiCall
from app.client.errors import Refused, RenormClientError, ServerUnreachable, UnexpectedAnswer

T = TypeVar("T")

EXCERPT_CHARACTERS = 200
"""Characters of an unexpected response that a message quotes."""


def read(call: ApiCall[T], response: httpx.Response, server: str) -> T:
    """Return the result in a response.

    Raises:
        Refused: the server, or a proxy before it, refused the request.
        UnexpectedAnswer: it is not the response of a Renorm server.
    """
    if response.is_success:
        try:
            return call.read(response.content)
        except ValidationError as error:
            raise _unexpected(server, f"it answers {call.method} {call.path} with {_start(response)}") from error
    if response.has_redirect_location:
        raise _unexpected(server, f"it redirects to {response.headers['Location']}; use that address")
    refused = _refusal(call, response)
    if refused.code == "stream_not_found" and call.absent is not None:
        return call.absent()
    raise refused


def unreachable(error: httpx.RequestError, server: str) -> RenormClientError:
    """Return the error for a request that got no response."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        # The common case, nothing listens there, needs no words of the system.
        plain = "refused" in str(error) or "All connection attempts failed" in str(error)
        reason = "" if plain else f" ({_reason(error)})"
        hint = "start one with `renorm serve`, or pass the right URL (--url)"
        return ServerUnreachable(f"no server answers at {server}{reason}; {hint}")
    if isinstance(error, httpx.TimeoutException):
        return ServerUnreachable(f"the server at {server} timed out; raise the timeout, or send fewer images")
    if isinstance(error, httpx.DecodingError):
        return _unexpected(server, f"its answer cannot be decoded: {_reason(error)}")
    return ServerUnreachable(f"the connection to {server} was lost: {_reason(error)}")


def _refusal(call: ApiCall[T], response: httpx.Response) -> Refused:
    status = response.status_code
    try:
        body = response.json()
        message, code, location = str(body["error"]), str(body["code"]), str(body.get("where", ""))
    except (ValueError, KeyError, TypeError):
        # Not our shape: the response of a proxy.
        return Refused(status, response.reason_phrase.lower().replace(" ", "_"), _start(response))
    return Refused(status, code, message, location, _source(call, location))


def _source(call: ApiCall[T], location: str) -> str:
    """Return the caller's own word for a part of the request that the server calls ``files[2]``."""
    match = re.fullmatch(r"files\[(\d+)\]", location)
    return call.parts[int(match[1])].name if match and int(match[1]) < len(call.parts) else ""


def _unexpected(server: str, detail: str) -> UnexpectedAnswer:
    return UnexpectedAnswer(f"{server} is not a Renorm server of this version: {detail}")


def _start(response: httpx.Response) -> str:
    return response.text[:EXCERPT_CHARACTERS] or "(nothing)"


def _reason(error: httpx.RequestError) -> str:
    return str(error) or type(error).__name__
