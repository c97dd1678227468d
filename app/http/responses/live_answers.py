"""What a call becomes: the engine's answer as bytes; and for doors that give many, errors among them."""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import replace
from typing import Any

import orjson
from starlette.types import Scope

from app.engine import Engine
from app.errors import RequestError
from app.http.middleware.observation import note
from app.http.requests.caller import client_of
from app.http.requests.parse import Parsed
from app.http.responses.errors import answer
from app.http.responses.predictions import LARGE, encoded

log = logging.getLogger("renorm")


async def predicted(scope: Scope, engine: Engine, parsed: Parsed, first: int = 0) -> bytes:
    """The engine's answer as JSON, in the shape of `POST /v1/predict`.

    ``first`` is the place of the call's first image in what the client sent, for errors that name an image.

    Raises:
        Exception: what `Engine.predict` raises; ``where`` is in the client's words.
    """
    try:
        prediction = await engine.predict(replace(parsed.call, client=client_of(scope)))
    except RequestError as error:
        error.location = parsed.location(_shifted(error.location, first))
        raise
    note(scope, parsed.call.stream, prediction.timing)
    said = (prediction, parsed.call.stream, engine.hosted.name, engine.hosted.classes)
    ranked = len(prediction.classes) * len(prediction.classes[0])
    return encoded(*said) if ranked <= LARGE else await asyncio.to_thread(encoded, *said)


def failed(error: Exception) -> bytes:
    """What a client that stays is told of an error: the one shape of errors, as JSON.

    Nothing above the caller sees the error, so one that is our own fault is logged here.
    """
    response = answer(error)
    if response.status_code == 500:
        log.error("a request failed", exc_info=error)
    return bytes(response.body)


def extended(body: bytes, **members: Any) -> bytes:
    """A JSON object that begins with these members; ``body``, an object with members of its own, is not read."""
    return orjson.dumps(members)[:-1] + b"," + body[1:]


def _shifted(location: str, first: int) -> str:
    found = re.fullmatch(r"images\[(\d+)\]", location)
    return f"images[{int(found[1]) + first}]" if found else location
