"""POST /v2/models/{model}/infer: named tensors in, named tensors out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from fastapi import Request, Response
from starlette.datastructures import Headers

from app.engine import Engine
from app.errors import RequestError
from app.http.dependencies import the_engine, the_settings
from app.http.middleware.authentication import check_touch
from app.http.middleware.body_limit import account_of
from app.http.middleware.observation import note
from app.http.requests.base64_images import decode_one
from app.http.requests.caller import client_of
from app.http.requests.disconnect import while_connected
from app.http.requests.fields import check_stream
from app.http.requests.headers import request_id, stream_of
from app.http.requests.parse import SMALL, read_whole
from app.models.hosted import Hosted
from app.oip.compression import Unfolding
from app.oip.infer import to_call
from app.oip.inputs import InputLimits
from app.oip.metadata import VERSION, check_model
from app.oip.outputs import Wanted, about, to_tensors
from app.oip.request_body import HEADER, Reading, read_body
from app.oip.response_body import Answer, write_answer
from app.resources.json_size import unpacked_bytes
from app.resources.memory import Account, bytes_of
from app.settings import Settings
from app.types import Call, Prediction

LARGE = 20_000
"""Values of an answer above which it is written in a thread."""

LONGEST = 18
"""Digits of the length of a header."""


class Asked(NamedTuple):
    """A request without its tensors: what the engine is asked, and what is to be answered."""

    call: Call
    id: str
    wanted: Sequence[Wanted]
    binary: bool


def the_hosting_engine(request: Request) -> Engine:
    """The engine, if it hosts the model that the path names, in that version.

    Raises:
        EngineClosedError: the server is starting or ending.
        ModelNotFoundError: it hosts another.
    """
    engine, asked = the_engine(request), request.path_params
    check_model(engine.hosted, asked["model"], asked.get("version", ""))
    return engine


async def infer(request: Request) -> Response:
    """Send images of one stream: as the network's input (FP32), as pixels (UINT8) or as files (BYTES, base64 in JSON).

    One request is one step of the stream that `sequence_id`, `renorm_stream` or a header names. A request that is
    refused changes nothing. The body is read as it is, whatever its Content-Type says.
    """
    engine = the_hosting_engine(request)
    asked = await _asked(request, the_settings(request), engine.hosted.preprocessing.input_shape)
    check_touch(request.scope, asked.call.stream, forgets=asked.call.start or asked.call.end)
    note(request.scope, asked.call.stream)
    try:
        async with while_connected(request):
            prediction = await engine.predict(replace(asked.call, client=client_of(request.scope)))
    except RequestError as error:
        error.location = re.sub("^images", "inputs[0].data", error.location)
        raise
    note(request.scope, asked.call.stream, prediction.timing)
    values = max(prediction.probabilities.numel(), len(prediction.classes) * asked.call.top_k)
    write = partial(_write, asked, prediction, engine.hosted)
    answer = write() if values <= LARGE else await asyncio.to_thread(write)
    if answer.header is None:
        return Response(answer.body, media_type="application/json")
    return Response(answer.body, media_type="application/octet-stream", headers={HEADER: str(answer.header)})


async def _asked(request: Request, settings: Settings, shape: tuple[int, int, int]) -> Asked:
    raw, headers, account = await read_whole(request), request.headers, account_of(request.scope)
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in {"", "identity"}:
        raw = await _unfolded(raw, coding, settings.max_decompressed_bytes, account)
    is_small = len(raw) <= SMALL
    needed = _needed(raw, headers) if is_small else await asyncio.to_thread(_needed, raw, headers)
    account.take(needed)
    given = raw, headers, settings, shape
    asked = _read(*given) if is_small else await asyncio.to_thread(_read, *given)
    account.set(bytes_of(asked.call.images))
    return asked


async def _unfolded(raw: bytes, coding: str, most: int, account: Account) -> bytes:
    """The body as it was before it was compressed, of which no more is made than there is room for."""
    unfolding, whole = Unfolding(raw, coding, most), bytearray()
    while part := await asyncio.to_thread(unfolding.next_part):
        account.take(len(part))
        whole += part
    account.set(2 * len(whole))  # the compressed body goes
    return bytes(whole)


def _needed(raw: bytes, headers: Headers) -> int:
    """The bytes that reading a body takes besides: of tensors behind the JSON a copy, of the JSON what it becomes."""
    declared = headers.get(HEADER, "")
    size = min(int(declared), len(raw)) if declared.isdecimal() and len(declared) <= LONGEST else len(raw)
    return unpacked_bytes(raw[:size]) + len(raw) - size


def _read(raw: bytes, headers: Headers, settings: Settings, shape: tuple[int, int, int]) -> Asked:
    limits = InputLimits(shape, settings.max_images)
    infer, binary = read_body(raw, headers.get(HEADER), Reading(limits, decode_one))
    call = to_call(infer, limits, settings.strategy, stream=stream_of(headers), request_id=request_id(headers))
    check_stream(call.stream)
    return Asked(call, infer.id, infer.wanted, binary)


def _write(asked: Asked, prediction: Prediction, hosted: Hosted) -> Answer:
    said = {
        "model_name": hosted.name,
        "model_version": VERSION,
        **({"id": asked.id} if asked.id else {}),
        "parameters": about(prediction, asked.call.stream),
    }
    tensors = to_tensors(prediction, hosted.classes, asked.wanted)
    return write_answer(said, tensors, asked.wanted, binary=asked.binary)
