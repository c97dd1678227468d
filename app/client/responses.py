"""From a response, or from none, to a result or to the error that says what happened."""

from __future__ import annotations

import re
from typing import TypeVar

import httpx
from pydantic import ValidationError

from app.client.calls import Ask
from app.client.errors import Refused, RenormClientError, ServerUnreachable, UnexpectedAnswer

T = TypeVar("T")

SHOWN = 200
"""Characters of an answer that is not ours, in a message about it."""


def read(ask: Ask[T], response: httpx.Response, server: str) -> T:
    """What the response says.

    Raises:
        Refused: the server, or a proxy before it, said no.
        UnexpectedAnswer: it is not the answer of a Renorm server.
    """
    if response.is_success:
        try:
            return ask.read(response.content)
        except ValidationError as error:
            raise _strange(server, f"it answers {ask.method} {ask.path} with {_start(response)}") from error
    if response.has_redirect_location:
        raise _strange(server, f"it redirects to {response.headers['Location']}; use that address")
    refused = _refusal(ask, response)
    if refused.code == "stream_not_found" and ask.absent is not None:
        return ask.absent()
    raise refused


def unreachable(error: httpx.RequestError, server: str) -> RenormClientError:
    """The error for a request that no response came to."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        # What is meant by far most often needs no system's words: nothing listens there.
        plain = "refused" in str(error) or "All connection attempts failed" in str(error)
        why = "" if plain else f" ({_said(error)})"
        return ServerUnreachable(f"no server answers at {server}{why}; start one with `renorm serve`")
    if isinstance(error, httpx.TimeoutException):
        return ServerUnreachable(f"the server at {server} took too long to answer; raise the timeout, or send less")
    if isinstance(error, httpx.DecodingError):
        return _strange(server, f"its answer cannot be decoded: {_said(error)}")
    return ServerUnreachable(f"the connection to {server} broke: {_said(error)}")


def _refusal(ask: Ask[T], response: httpx.Response) -> Refused:
    status = response.status_code
    try:
        said = response.json()
        message, code, where = str(said["error"]), str(said["code"]), str(said.get("where", ""))
    except (ValueError, KeyError, TypeError):
        # Not our shape: a proxy said it.
        return Refused(status, response.reason_phrase.lower().replace(" ", "_"), _start(response))
    return Refused(status, code, message, where, _source(ask, where))


def _source(ask: Ask[T], where: str) -> str:
    """The caller's own word for a part of the request that the server calls ``files[2]``."""
    found = re.fullmatch(r"files\[(\d+)\]", where)
    return ask.parts[int(found[1])].name if found and int(found[1]) < len(ask.parts) else ""


def _strange(server: str, what: str) -> UnexpectedAnswer:
    return UnexpectedAnswer(f"what answers at {server} is not a Renorm server of this version: {what}")


def _start(response: httpx.Response) -> str:
    return response.text[:SHOWN] or "(nothing)"


def _said(error: httpx.RequestError) -> str:
    return str(error) or type(error).__name__
