"""Parsing of HTTP requests to the engine's `Call`: a form, one image, or JSON, with fields in the body or the query."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from fastapi import Request
from starlette.datastructures import Headers

from app.errors import FieldError, MediaTypeError
from app.http.middleware.body_limit import account_of
from app.http.requests.base64_images import decode_all
from app.http.requests.fields import PREDICT, RESET, check_top_k, gather
from app.http.requests.forms import read_form
from app.http.requests.headers import request_id, stream_of
from app.http.requests.strict_json import load_object
from app.resources.json_size import unpacked_bytes
from app.settings import Settings
from app.types import Call

# The last is the default of `curl --data-binary @image.jpg`, whatever it sends.
_BYTES = {"", "application/octet-stream", "application/x-www-form-urlencoded"}
_FORMS = "send an image (-H 'Content-Type: image/jpeg'), a form (-F files=@image.jpg) or JSON"

SMALL = 50_000
"""Bytes of JSON that are parsed on the event loop, in a fraction of a millisecond; larger bodies go to a thread."""


class PredictRequest(NamedTuple):
    """A call, and the place of its images in the client's request, such as ``files[{}]``."""

    call: Call
    place: str


async def parse_predict(request: Request, settings: Settings, classes: int) -> PredictRequest:
    """Parse the request's body and fields; ``classes`` is the number of the model's classes.

    Raises:
        FieldError: no image, or a field or header is unknown, appears twice, has the wrong type or is out of range.
        TooLargeError: more bytes or images than the server accepts.
        MediaTypeError: the Content-Type is not supported.
    """
    kind = _media_type(request)
    # The query first: it can be refused before the body is read.
    query = gather(PREDICT, request.query_params.multi_items())
    if kind == "multipart/form-data":
        images, text = await read_form(request, settings)
        place, fields = "files[{}]", gather(PREDICT, text, query_values=query, extra_field="files")
    elif kind == "application/json":
        images, fields = await _read_json(request, query, settings.max_images)
        place = "images[{}]"
    elif kind in _BYTES or kind.startswith("image/"):
        body = await read_whole(request)
        images, place, fields = [body] if body else [], "body", query
    else:
        raise _unsupported_type(kind, _FORMS)
    account_of(request.scope).set(sum(map(len, images)))  # the body is released by now
    if not images:
        raise FieldError("the request has no image", hint=_FORMS, location=place.removesuffix("[{}]"))
    return _to_request(images, place, fields, request.headers, classes)


async def parse_reset(request: Request) -> dict[str, Any]:
    """Parse the limits of a reset from the query or an optional JSON body: ``stream``, ``strategy``, or neither.

    Raises:
        FieldError: a field is unknown, appears twice or has the wrong type; or neither is set, and not ``all``.
        MediaTypeError: the body is not JSON.
    """
    kind = _media_type(request)
    query = gather(RESET, request.query_params.multi_items())
    body = await request.body()
    if not body:
        return _limits(query)
    if kind not in {"", "application/json"}:
        raise _unsupported_type(kind, "send JSON with -H 'Content-Type: application/json'")
    return _limits(gather(RESET, members=load_object(body, "body"), query_values=query))


def _limits(fields: dict[str, Any]) -> dict[str, Any]:
    everything = fields.pop("all", False)
    if everything and fields:
        raise FieldError(f"all=true excludes {' and '.join(fields)}", hint="send one of them", location="all")
    if not everything and not fields:
        raise FieldError(
            "a reset without stream and strategy would reset every stream",
            hint="set stream or strategy, or send all=true",
            location="all",
        )
    return fields


async def _read_json(request: Request, query: dict[str, Any], max_images: int) -> tuple[list[bytes], dict[str, Any]]:
    body = await read_whole(request)
    if len(body) <= SMALL:
        account_of(request.scope).check(unpacked_bytes(body))
        return _from_json(body, query, max_images)
    account_of(request.scope).take(await asyncio.to_thread(unpacked_bytes, body))
    return await asyncio.to_thread(_from_json, body, query, max_images)


async def read_whole(request: Request) -> bytes:
    """Return the body. `request.body()` would keep it while the request waits, beside the images made of it."""
    return b"".join([part async for part in request.stream()])


def _from_json(body: bytes, query: dict[str, Any], max_images: int) -> tuple[list[bytes], dict[str, Any]]:
    members = load_object(body, "body")
    if "images" not in members:
        raise FieldError("the body has no member 'images'", hint="send a list of base64 strings", location="images")
    images = members.pop("images")
    fields = gather(PREDICT, members=members, query_values=query, extra_field="images")
    return decode_all(images, max_images), fields


def _to_request(
    images: list[bytes], place: str, fields: dict[str, Any], headers: Headers, classes: int
) -> PredictRequest:
    if "top_k" in fields:
        check_top_k(fields["top_k"], classes)
    if "timeout" in fields:
        fields["timeout_s"] = fields.pop("timeout")
    # A proxy may set the header on every request, so it counts only where the client did not name a stream.
    if "stream" not in fields and (stream := stream_of(headers)) is not None:
        fields["stream"] = stream
    return PredictRequest(Call(images, **fields, request_id=request_id(headers)), place)


def _media_type(request: Request) -> str:
    """Return the body's media type in lower case, without parameters; empty without a Content-Type."""
    coding = request.headers.get("content-encoding", "identity")
    if coding.lower() not in {"", "identity"}:
        raise MediaTypeError(
            f"Content-Encoding {coding[:50]!r} is not supported", hint="send the body uncompressed", location="body"
        )
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _unsupported_type(kind: str, hint: str) -> MediaTypeError:
    return MediaTypeError(f"Content-Type {kind[:100]!r} is not supported", hint=hint, location="body")
