"""POST /v2/models/{model}/infer: prediction from named tensors to named tensors."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from fastapi import Request, Response
from starlette.datastructures import Headers

from app.engine import Engine
from app.errors import locate_images
from app.http.middleware.authentication import check_stream_access
from app.http.middleware.body_limit import account_of
from app.http.middleware.observation import note
from app.http.requests.base64_images import decode_one
from app.http.requests.caller import client_of
from app.http.requests.disconnect import while_connected
from app.http.requests.fields import check_stream
from app.http.requests.headers import request_id, stream_of
from app.http.requests.parse import SMALL, read_whole
from app.models.hosted import Hosted
from app.oip.compression import Decompressor
from app.oip.infer import to_call
from app.oip.inputs import InputLimits
from app.oip.metadata import VERSION, check_model
from app.oip.outputs import OutputRequest, response_parameters, to_tensors
from app.oip.request_body import HEADER, BodyReader, read_body
from app.oip.response_body import WireResponse, write_response
from app.resources.json_size import unpacked_bytes
from app.resources.memory import Account, bytes_of
from app.server_state import state_of
from app.settings import Settings
from app.types import Call, Prediction

LARGE = 20_000
"""Values of a response above which it is written in a thread."""

LONGEST = 18
"""Digits of the number in the header."""


class InferCall(NamedTuple):
    """A parsed request without its tensors: the engine's call, and the form of its response."""

    call: Call
    id: str
    outputs: Sequence[OutputRequest]
    binary: bool


def the_hosting_engine(request: Request) -> Engine:
    """Return the engine, if it hosts the model and version that the path names.

    Raises:
        EngineClosedError: the server is starting or shutting down.
        ModelNotFoundError: it hosts another model.
    """
    engine, path = state_of(request.app).require_engine(), request.path_params
    check_model(engine.hosted, path["model"], path.get("version", ""))
    return engine


async def infer(request: Request) -> Response:
    """Send images of one stream: as the network's input (FP32), as pixels (UINT8) or as files (BYTES, base64 in JSON).

    One request is one step of the stream that `sequence_id`, `renorm_stream` or a header names. A request that is
    refused changes nothing. The Content-Type of the body is ignored.
    """
    engine = the_hosting_engine(request)
    infer_call = await _read_call(request, state_of(request.app).settings, engine.hosted.preprocessing.input_shape)
    check_stream_access(request.scope, infer_call.call.stream, forgets=infer_call.call.start or infer_call.call.end)
    note(request.scope, infer_call.call.stream)
    with locate_images("inputs[0].data[{}]"):
        async with while_connected(request):
            prediction = await engine.predict(replace(infer_call.call, client=client_of(request.scope)))
    note(request.scope, infer_call.call.stream, prediction.timing)
    values = max(prediction.probabilities.numel(), len(prediction.classes) * infer_call.call.top_k)
    write = partial(_write, infer_call, prediction, engine.hosted)
    response = write() if values <= LARGE else await asyncio.to_thread(write)
    if response.header is None:
        return Response(response.body, media_type="application/json")
    return Response(response.body, media_type="application/octet-stream", headers={HEADER: str(response.header)})


async def _read_call(request: Request, settings: Settings, shape: tuple[int, int, int]) -> InferCall:
    raw, headers, account = await read_whole(request), request.headers, account_of(request.scope)
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in {"", "identity"}:
        raw = await _decompress(raw, coding, settings.max_decompressed_bytes, account)
    is_small = len(raw) <= SMALL
    account.take(_parsing_bytes(raw, headers) if is_small else await asyncio.to_thread(_parsing_bytes, raw, headers))
    arguments = raw, headers, settings, shape
    infer_call = _read(*arguments) if is_small else await asyncio.to_thread(_read, *arguments)
    account.set(bytes_of(infer_call.call.images))
    return infer_call


async def _decompress(raw: bytes, coding: str, max_bytes: int, account: Account) -> bytes:
    """Decompress the body, as far as the server has memory for it."""
    decompressor, decompressed = Decompressor(raw, coding, max_bytes), bytearray()
    while chunk := await asyncio.to_thread(decompressor.next_chunk):
        account.take(len(chunk))
        decompressed += chunk
    account.set(2 * len(decompressed))  # the compressed body goes
    return bytes(decompressed)


def _parsing_bytes(raw: bytes, headers: Headers) -> int:
    """Return the bytes of memory that parsing takes: a copy of the binary tensors, and the objects made of the JSON."""
    declared = headers.get(HEADER, "")
    size = min(int(declared), len(raw)) if declared.isdecimal() and len(declared) <= LONGEST else len(raw)
    return unpacked_bytes(raw[:size]) + len(raw) - size


def _read(raw: bytes, headers: Headers, settings: Settings, shape: tuple[int, int, int]) -> InferCall:
    limits = InputLimits(shape, settings.max_images)
    infer = read_body(raw, headers.get(HEADER), BodyReader(limits, decode_one))
    call = to_call(infer, limits, settings.strategy, stream=stream_of(headers), request_id=request_id(headers))
    check_stream(call.stream)
    return InferCall(call, infer.id, infer.outputs, infer.binary)


def _write(infer_call: InferCall, prediction: Prediction, hosted: Hosted) -> WireResponse:
    members = {
        "model_name": hosted.name,
        "model_version": VERSION,
        **({"id": infer_call.id} if infer_call.id else {}),
        "parameters": response_parameters(prediction, infer_call.call.stream),
    }
    tensors = to_tensors(prediction, hosted.classes, infer_call.outputs)
    return write_response(members, tensors, infer_call.outputs, binary=infer_call.binary)
