"""JSON of predictions, and of the errors among them where a door sends many responses."""

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
from app.http.requests.parse import PredictRequest
from app.http.responses.errors import answer
from app.http.responses.predictions import LARGE, encode_prediction

log = logging.getLogger("renorm")


async def predict_to_json(scope: Scope, engine: Engine, request: PredictRequest, first: int = 0) -> bytes:
    """Predict, and return the JSON of `POST /v1/predict`.

    ``first`` is the index of the call's first image in the client's request, for errors that name an image.

    Raises:
        Exception: what `Engine.predict` raises, with the location in the client's request.
    """
    try:
        prediction = await engine.predict(replace(request.call, client=client_of(scope)))
    except RequestError as error:
        error.location = request.location(_shifted(error.location, first))
        raise
    note(scope, request.call.stream, prediction.timing)
    arguments = (prediction, request.call.stream, engine.hosted.name, engine.hosted.classes)
    ranked = len(prediction.classes) * len(prediction.classes[0])
    return encode_prediction(*arguments) if ranked <= LARGE else await asyncio.to_thread(encode_prediction, *arguments)


def error_to_json(error: Exception) -> bytes:
    """Return the JSON of an error, for a client that stays connected.

    Nothing above the caller sees the error, so an internal one is logged here.
    """
    response = answer(error)
    if response.status_code == 500:
        log.error("a request failed", exc_info=error)
    return bytes(response.body)


def prepend_members(body: bytes, **members: Any) -> bytes:
    """Return the JSON object ``body`` with these members before its own, without parsing it."""
    return orjson.dumps(members)[:-1] + b"," + body[1:]


def _shifted(location: str, first: int) -> str:
    match = re.fullmatch(r"images\[(\d+)\]", location)
    return f"images[{int(match[1]) + first}]" if match else location
