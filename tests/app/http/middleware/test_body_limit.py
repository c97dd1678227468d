import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.http.middleware.body_limit import BodyLimit
from tests.app.fakes import Client, refusal


def sent(most: int, headers: list[tuple[bytes, bytes]], parts: list[bytes]) -> tuple[list[bytes], list[Any]]:
    """What the application behind a limit reads, and what the client gets, until the limit speaks."""
    read: list[bytes] = []
    got: list[Any] = []
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in parts:
            message = await receive()
            read.append(message["body"])

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        got.append(message)

    asyncio.run(BodyLimit(app, most)({"type": "http", "headers": headers}, receive, send))
    return read, got


def test_a_declared_length_is_refused_before_anything_is_read() -> None:
    read, got = sent(10, [(b"content-length", b"11")], [b"x"])
    assert read == []
    assert got[0]["status"] == 413


@pytest.mark.parametrize("declared", [b"10", b"nonsense", b"-1", b""])
def test_other_declared_lengths_pass(declared: bytes) -> None:
    assert sent(10, [(b"content-length", declared)], [b"12345", b"67890"]) == ([b"12345", b"67890"], [])


def test_websocket_and_lifespan_pass() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["type"], receive))

    asyncio.run(BodyLimit(app, 1)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == [("lifespan", None)]


async def long() -> AsyncIterator[bytes]:
    for _ in range(100):
        yield b"x" * 1000


async def form() -> AsyncIterator[bytes]:
    yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    async for chunk in long():
        yield chunk


@pytest.mark.parametrize("kind", ["", "image/png", "application/json", "multipart/form-data; boundary=b"])
@pytest.mark.parametrize("chunked", [True, False])
def test_body_limit_covers_every_content_type(kind: str, chunked: bool) -> None:
    client = Client(max_body_bytes=5000)
    content: Any = (form() if "form" in kind else long()) if chunked else b"x" * 5001
    response = client.post("/v1/predict", content=content, headers={"Content-Type": kind})
    assert "at most 5000 bytes" in refusal(response, 413, "too_large", "body")
    assert client.engine.calls == []


def test_admin_bodies_are_limited_too() -> None:
    client = Client(max_body_bytes=100)
    refusal(client.post("/v1/admin/reset", content=long()), 413, "too_large", "body")
    refusal(client.post("/v1/admin/reset", content=b" " * 101), 413, "too_large", "body")
    assert client.engine.resets == []


def test_impossible_content_length_is_refused() -> None:
    response = Client().post("/v1/predict", content=b"x", headers={"Content-Length": "9" * 5000})
    refusal(response, 413, "too_large", "body")


def test_a_body_of_just_the_limit_passes() -> None:
    client = Client(max_body_bytes=5000)
    assert client.predict(b"x" * 5000).status_code == 200
