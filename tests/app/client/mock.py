"""A server made of functions, which records requests and replays responses; both clients are driven alike."""

from __future__ import annotations

import asyncio
import email.message
import email.parser
import email.policy
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from app.client import AsyncClient, Client

BOTH = pytest.mark.parametrize("kind", [Client, AsyncClient])

RANKED = [
    {"label": "cow", "index": 2, "probability": 0.4},
    {"label": "dog", "index": 3, "probability": 0.2},
]
TIMING = {"decode": 1.0, "queue": 0.5, "forward": 2.0, "total": 3.5}


def prediction_response(images: int = 1, **other: Any) -> httpx.Response:
    """Return the response of `/v1/predict` for so many images."""
    body = {
        "model": "fake-net",
        "stream": "default",
        "strategy": "adabn",
        "params": {"momentum": 0.1},
        "step": 1,
        "updated": True,
        "state_origin": "live",
        "drift": 0.5,
        "adaptation": 0.25,
        "entropy": 0.25,
        "predictions": [{**RANKED[0], "top_k": RANKED}] * images,
        "timing_ms": TIMING,
    }
    return httpx.Response(200, json={**body, **other})


def error_response(status: int, code: str, where: str | None = None, **headers: str) -> httpx.Response:
    """Return an error response in the server's form."""
    body = {"error": "it was wrong; mend it", "code": code, **({"where": where} if where else {})}
    return httpx.Response(status, json=body, headers=headers)


class Server:
    """Answers each request with the next of ``replies``, the last one again and again; an exception is raised."""

    def __init__(self, *replies: httpx.Response | Exception) -> None:
        self.replies, self.requests = list(replies), list[httpx.Request]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        # A new one each time: a response can be read once.
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)


class AwaitableClient:
    """A `Client` whose methods are awaited, so that one test can drive both."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*positional: Any, **named: Any) -> Any:
            return getattr(self.client, name)(*positional, **named)

        return call


def run(kind: type, server: Server, use: Callable[[Any], Awaitable[Any]], **options: Any) -> Any:
    """Return the result of ``use``, given a client of that kind."""

    async def exchange() -> Any:
        transport = httpx.MockTransport(server)
        if kind is AsyncClient:
            async with AsyncClient(transport=transport, **options) as client:
                return await use(client)
        with Client(transport=transport, **options) as client:
            return await use(AwaitableClient(client))

    return asyncio.run(exchange())


def form(request: httpx.Request) -> tuple[dict[str, str], list[tuple[str, bytes]]]:
    """Return the fields of a multipart request, and the type and bytes of each of its files."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    parsed = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + request.content)
    fields, files = dict[str, str](), list[tuple[str, bytes]]()
    for part in parsed.iter_parts():
        content = part.get_payload(decode=True)
        assert isinstance(part, email.message.Message)
        assert isinstance(content, bytes)
        name = part.get_param("name", header="content-disposition")
        if part.get_filename() is None:
            fields[str(name)] = content.decode()
        else:
            assert name == "files"
            files.append((part.get_content_type(), content))
    return fields, files


def predict(*positional: Any, **named: Any) -> Any:
    """Use a client to predict once."""

    async def use(client: Any) -> Any:
        return await client.predict(*(positional or (b"image",)), **named)

    return use
