"""POST /v1/predict/stream: predictions of many images, one line of JSON for each chunk as soon as it is ready."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Scope

from app.engine import Engine
from app.http.middleware.authentication import check_stream_access
from app.http.middleware.observation import note
from app.http.raw_route import RawRoute
from app.http.requests.disconnect import while_connected
from app.http.requests.fields import PREDICT, FieldSpec, gather, require
from app.http.requests.parse import PredictRequest, parse_predict
from app.http.responses.errors import error_to_json
from app.http.responses.openapi import PREDICT_DOCS, error_responses
from app.http.responses.predictions import predict_to_json, prepend_members
from app.server_state import state_of

router = APIRouter(prefix="/v1", tags=["predict"], route_class=RawRoute)


class JsonLinesResponse(StreamingResponse):
    """A response with one JSON object per line."""

    media_type = "application/x-ndjson"


class UploadChunk(NamedTuple):
    """One chunk of an upload: a request, with the indices of its first and last image."""

    request: PredictRequest
    first: int
    last: int


def _check_chunk(value: Any) -> None:
    hint = "it is the number of images of one step; send it in the query"
    require(isinstance(value, int) and value > 0, "chunk", "a positive integer", value, hint)


CHUNK = FieldSpec(
    {"type": "integer", "minimum": 1, "default": 8, "description": "images in one chunk, which is one step"},
    _check_chunk,
    PREDICT["top_k"].parse,
)
"""The number of images in a chunk."""

_DOCS: dict[str, Any] = {
    **PREDICT_DOCS,
    "parameters": [
        *PREDICT_DOCS["parameters"],
        {
            "name": "chunk",
            "in": "query",
            "required": False,
            "description": CHUNK.schema["description"],
            "schema": CHUNK.schema,
        },
    ],
}
_LINES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One line per chunk: a response of `/v1/predict` with `images`, or an error with `images`",
        "content": {
            JsonLinesResponse.media_type: {
                "schema": {"type": "string"},
                "example": '{"images":[0,7],"model":"cifar10-resnet20","stream":"camera-7","step":1}\n',
            }
        },
    }
}


@router.post(
    "/predict/stream",
    summary="Predict many images, with one line of JSON per chunk as soon as it is ready",
    response_class=Response,  # which has no media type, so that errors are described as JSON
    responses={**_LINES, **error_responses(413, 415, 422, 429, 503, 504)},
    openapi_extra=_DOCS,
)
async def predict_stream(request: Request) -> Response:
    """Send many images of one stream; every `chunk` of them, in order, is one request and one step.

    Each response is one line of JSON, sent as soon as it is ready, in the shape of `/v1/predict` and with `images`: the
    indices of its first and last image. An error in the first chunk is the response to the upload, in a later one it is
    the last line. When the client disconnects, chunks that are not in a forward yet take no step.
    """
    engine = state_of(request.app).require_engine()
    size, body_request = _chunk(request)
    upload = await parse_predict(body_request, state_of(request.app).settings, len(engine.hosted.classes))
    check_stream_access(request.scope, upload.call.stream)
    note(request.scope, upload.call.stream)
    first, *chunks = split(upload, size)
    # Before the response begins, so that a wrong field is an error with its status.
    async with while_connected(request):
        line = await _line(request.scope, engine, first)
    return JsonLinesResponse(_lines(request.scope, engine, line, chunks))


def split(upload: PredictRequest, size: int) -> list[UploadChunk]:
    """Split an upload into requests of ``size`` images, in order; the last may have fewer."""
    call, count = upload.call, len(upload.call.images)
    chunks = []
    for first in range(0, count, size):
        last = min(first + size, count) - 1
        chunk_call = replace(
            call,
            images=call.images[first : last + 1],
            start=call.start and first == 0,
            end=call.end and last == count - 1,
            # An id stands for one step: each chunk has its own.
            request_id=None if call.request_id is None else f"{call.request_id}[{first}:{last}]",
        )
        chunks.append(UploadChunk(PredictRequest(chunk_call, upload.place), first, last))
    return chunks


async def _lines(scope: Scope, engine: Engine, line: bytes, chunks: list[UploadChunk]) -> AsyncIterator[bytes]:
    yield line
    for chunk in chunks:
        try:
            line = await _line(scope, engine, chunk)
        except Exception as error:
            # The status is sent already: the error is the last line.
            yield prepend_members(error_to_json(error), images=[chunk.first, chunk.last]) + b"\n"
            return
        yield line


async def _line(scope: Scope, engine: Engine, chunk: UploadChunk) -> bytes:
    body = await predict_to_json(scope, engine, chunk.request, chunk.first)
    return prepend_members(body, images=[chunk.first, chunk.last]) + b"\n"


def _chunk(request: Request) -> tuple[int, Request]:
    """Return the size of a chunk, and the request without that field, which the engine's call does not have."""
    query = request.query_params.multi_items()
    chunk, remaining = ([item for item in query if (item[0] == "chunk") is is_chunk] for is_chunk in (True, False))
    size: int = gather({"chunk": CHUNK}, chunk).get("chunk", CHUNK.schema["default"])
    return size, Request({**request.scope, "query_string": urlencode(remaining).encode()}, request.receive)
