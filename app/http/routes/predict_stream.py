"""POST /v1/predict/stream: many images in, a line of JSON out for each chunk of them as soon as it is answered."""

from __future__ import annotations

import reprlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Scope

from app.engine import Engine
from app.errors import FieldError
from app.http.dependencies import the_engine, the_settings
from app.http.middleware.authentication import check_touch
from app.http.middleware.observation import note
from app.http.raw_route import Direct
from app.http.requests.disconnect import while_connected
from app.http.requests.fields import PREDICT, Known, gather
from app.http.requests.parse import Parsed, parse_predict
from app.http.responses.live_answers import extended, failed, predicted
from app.http.responses.openapi import PREDICT_DOCS, described

router = APIRouter(prefix="/v1", tags=["predict"], route_class=Direct)


class Lines(StreamingResponse):
    """One JSON object per line."""

    media_type = "application/x-ndjson"


class Part(NamedTuple):
    """One chunk of an upload: a request of its own, with the places of its first and last image."""

    parsed: Parsed
    first: int
    last: int


def _check_chunk(value: Any) -> None:
    if not isinstance(value, int) or value < 1:
        raise FieldError(
            f"chunk must be a whole number from 1, not {reprlib.repr(value)}",
            hint="it is how many images make one step; give it in the query",
            location="chunk",
        )


CHUNK = Known(
    {"type": "integer", "minimum": 1, "default": 8, "description": "images of one request, which is one step"},
    _check_chunk,
    PREDICT["top_k"].read,
)
"""How many images make one request."""

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
        "description": "One line per chunk: an answer of `/v1/predict` with `images`, or an error with `images`",
        "content": {
            Lines.media_type: {
                "schema": {"type": "string"},
                "example": '{"images":[0,7],"model":"cifar10-resnet20","stream":"camera-7","step":1}\n',
            }
        },
    }
}


@router.post(
    "/predict/stream",
    summary="Predict many images, answered in lines while they are worked on",
    response_class=Response,  # which says no type of its own: errors are described as the JSON they are
    responses={**_LINES, **described(413, 415, 422, 429, 503, 504)},
    openapi_extra=_DOCS,
)
async def predict_stream(request: Request) -> Response:
    """Send many images of one stream; every `chunk` of them, in order, is one request and one step.

    Each answer comes as one line of JSON as soon as it is there, of the shape of `/v1/predict` and with `images`: the
    places of its first and last image. What refuses the first chunk refuses the upload. An error in a later one is the
    last line. A client that goes away leaves the chunks that are not in a forward yet without a step.
    """
    engine = the_engine(request)
    size, rest = _chunk(request)
    parsed = await parse_predict(rest, the_settings(request), len(engine.hosted.classes))
    check_touch(request.scope, parsed.call.stream)
    note(request.scope, parsed.call.stream)
    first, *more = split(parsed, size)
    # Before the response begins, so that an upload with a wrong field is answered with its status.
    async with while_connected(request):
        line = await _line(request.scope, engine, first)
    return Lines(_lines(request.scope, engine, line, more))


def split(parsed: Parsed, size: int) -> list[Part]:
    """The requests that an upload is made of, in order, each of ``size`` images but perhaps the last."""
    call, count = parsed.call, len(parsed.call.images)
    parts = []
    for first in range(0, count, size):
        last = min(first + size, count) - 1
        one = replace(
            call,
            images=call.images[first : last + 1],
            start=call.start and first == 0,
            end=call.end and last == count - 1,
            # An id stands for one step: each chunk has its own.
            request_id=None if call.request_id is None else f"{call.request_id}[{first}:{last}]",
        )
        parts.append(Part(Parsed(one, parsed.place), first, last))
    return parts


async def _lines(scope: Scope, engine: Engine, line: bytes, more: list[Part]) -> AsyncIterator[bytes]:
    yield line
    for part in more:
        try:
            line = await _line(scope, engine, part)
        except Exception as error:
            # The status is out: the client learns of the error from the last line.
            yield extended(failed(error), images=[part.first, part.last]) + b"\n"
            return
        yield line


async def _line(scope: Scope, engine: Engine, part: Part) -> bytes:
    body = await predicted(scope, engine, part.parsed, part.first)
    return extended(body, images=[part.first, part.last]) + b"\n"


def _chunk(request: Request) -> tuple[int, Request]:
    """The size of a chunk, and the request without that field, which calls of the engine do not have."""
    query = request.query_params.multi_items()
    own, rest = ([item for item in query if (item[0] == "chunk") is mine] for mine in (True, False))
    size: int = gather({"chunk": CHUNK}, own).get("chunk", CHUNK.schema["default"])
    return size, Request({**request.scope, "query_string": urlencode(rest).encode()}, request.receive)
