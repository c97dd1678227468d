"""From an HTTP request to the engine's `Call`: a form, one image, or JSON, with fields in the body or the query."""

from __future__ import annotations

import asyncio
import re
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

# The last is what `curl --data-binary @image.jpg` says unasked, whatever it sends.
_BYTES = {"", "application/octet-stream", "application/x-www-form-urlencoded"}
_FORMS = "send an image (-H 'Content-Type: image/jpeg'), a form (-F files=@image.jpg) or JSON"

SMALL = 50_000
"""Bytes of JSON that are read on the event loop, which takes a small part of a millisecond; more go to a thread."""


class Parsed(NamedTuple):
    """A call, and what the client calls its i-th image: ``files[{}]``."""

    call: Call
    place: str

    def location(self, place: str) -> str:
        """The client's word for a place that the engine names: its ``images[2]`` is a form's ``files[2]``."""
        found = re.fullmatch(r"images\[(\d+)\]", place)
        return self.place.format(found[1]) if found else place


async def parse_predict(request: Request, settings: Settings, classes: int) -> Parsed:
    """Read the request's body and fields; ``classes`` is how many the model has.

    Raises:
        FieldError: no image, or a field or header is unknown, given twice, of the wrong type or out of range.
        TooLargeError: more bytes or images than the server accepts.
        MediaTypeError: the body is none of the three forms.
    """
    kind = _media_type(request)
    # The query first: it can be refused before the body is read.
    query = gather(PREDICT, request.query_params.multi_items())
    if kind == "multipart/form-data":
        images, text = await read_form(request, settings)
        place, fields = "files[{}]", gather(PREDICT, text, before=query, beside="files")
    elif kind == "application/json":
        images, fields = await _read_json(request, query, settings.max_images)
        place = "images[{}]"
    elif kind in _BYTES or kind.startswith("image/"):
        body = await read_whole(request)
        images, place, fields = [body] if body else [], "body", query
    else:
        raise _unread(kind, _FORMS)
    account_of(request.scope).set(sum(map(len, images)))  # the body is gone, whatever it was
    if not images:
        raise FieldError(
            "the request holds no image", hint=_FORMS, location="files" if place == "files[{}]" else "body"
        )
    return _parsed(images, place, fields, request.headers, classes)


async def parse_reset(request: Request) -> dict[str, Any]:
    """What a reset is limited to, from the query or from an optional JSON body: ``stream``, ``strategy``, or neither.

    Raises:
        FieldError: a field is unknown, given twice or of the wrong type; or neither is there, and no ``all``.
        MediaTypeError: the body is not JSON.
    """
    kind = _media_type(request)
    query = gather(RESET, request.query_params.multi_items())
    body = await request.body()
    if not body:
        return _limits(query)
    if kind not in {"", "application/json"}:
        raise _unread(kind, "send JSON with -H 'Content-Type: application/json'")
    return _limits(gather(RESET, members=load_object(body, "body"), before=query))


def _limits(fields: dict[str, Any]) -> dict[str, Any]:
    everything = fields.pop("all", False)
    if everything and fields:
        raise FieldError(f"all is not for one {' or '.join(fields)}", hint="leave one of them out", location="all")
    if not everything and not fields:
        raise FieldError(
            "a reset without a stream and a strategy would forget everything",
            hint="name the stream, or say all=true",
            location="all",
        )
    return fields


async def _read_json(request: Request, query: dict[str, Any], most: int) -> tuple[list[bytes], dict[str, Any]]:
    body = await read_whole(request)
    if len(body) <= SMALL:
        account_of(request.scope).check(unpacked_bytes(body))
        return _from_json(body, query, most)
    account_of(request.scope).take(await asyncio.to_thread(unpacked_bytes, body))
    return await asyncio.to_thread(_from_json, body, query, most)


async def read_whole(request: Request) -> bytes:
    """The body. Not as `request.body()` reads it, which keeps it while the request waits, beside what is made of it."""
    return b"".join([part async for part in request.stream()])


def _from_json(body: bytes, query: dict[str, Any], most: int) -> tuple[list[bytes], dict[str, Any]]:
    members = load_object(body, "body")
    if "images" not in members:
        raise FieldError("the body has no member 'images'", hint="it is a list of base64 strings", location="images")
    given = members.pop("images")
    fields = gather(PREDICT, members=members, before=query, beside="images")
    return decode_all(given, most), fields


def _parsed(images: list[bytes], place: str, fields: dict[str, Any], headers: Headers, classes: int) -> Parsed:
    if "top_k" in fields:
        check_top_k(fields["top_k"], classes)
    if "timeout" in fields:
        fields["timeout_s"] = fields.pop("timeout")
    # A proxy may set the header on every request, so it counts only where the client did not name a stream.
    if "stream" not in fields and (stream := stream_of(headers)) is not None:
        fields["stream"] = stream
    return Parsed(Call(images, **fields, request_id=request_id(headers)), place)


def _media_type(request: Request) -> str:
    """The body's type, in small letters and without parameters; empty where none is said."""
    coding = request.headers.get("content-encoding", "identity")
    if coding.lower() not in {"", "identity"}:
        raise MediaTypeError(
            f"bodies in coding {coding[:50]!r} are not read", hint="send the body as it is", location="body"
        )
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _unread(kind: str, hint: str) -> MediaTypeError:
    return MediaTypeError(f"bodies of type {kind[:100]!r} are not read here", hint=hint, location="body")
