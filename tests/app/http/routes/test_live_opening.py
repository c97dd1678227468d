from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from app.http.routes.live import LONGEST_REASON
from tests.app.fakes import Client
from tests.app.http.cameras import PATH, Camera, play

BAD = {
    "strategy=magic": (422, "unknown_strategy", "strategy"),
    "strategy=adabn&params=%7B%22momentum%22:2%7D": (422, "invalid_parameter", "params"),
    "params=nonsense": (422, "invalid_field", "params"),
    "update=perhaps": (422, "invalid_field", "update"),
    "top_k=8": (422, "invalid_field", "top_k"),
    "policy=drop": (422, "invalid_field", "policy"),
    "queue=0": (422, "invalid_field", "queue"),
    "queue=257": (422, "invalid_field", "queue"),
    "queue=many": (422, "invalid_field", "queue"),
    "colour=red": (422, "invalid_field", "colour"),
    "stream=other": (422, "invalid_field", "stream"),
    "explain=maybe": (422, "invalid_field", "explain"),
    "queue=1&queue=2": (422, "invalid_field", "queue"),
    f"strategy={'x' * 128}": (422, "unknown_strategy", "strategy"),
}


@pytest.mark.parametrize("query", BAD)
def test_a_wrong_field_is_refused_before_the_connection_is_accepted(query: str) -> None:
    status, code, location = BAD[query]

    async def scene(client: Client) -> None:
        async with Camera(client, f"{PATH}?{query}") as camera:
            start, body = await camera.message(), await camera.message()
        assert (start["type"], start["status"]) == ("websocket.http.response.start", status)
        assert (b"content-type", b"application/json") in start["headers"]
        said = json.loads(body["body"])
        assert (said["code"], said["where"]) == (code, location)

    play(scene)


@pytest.mark.parametrize("query", BAD)
def test_a_server_that_cannot_refuse_with_http_closes_with_a_reason(query: str) -> None:
    async def scene(client: Client) -> None:
        async with Camera(client, f"{PATH}?{query}", denial=False) as camera:
            await camera.opened()
            closed = await camera.message()
        assert (closed["type"], closed["code"]) == ("websocket.close", 1008)
        assert 20 < len(closed["reason"].encode()) <= LONGEST_REASON

    play(scene)


def test_before_the_engine_is_open_the_connection_is_refused() -> None:
    client = Client()

    async def scene() -> None:
        async with Camera(client, PATH) as camera:
            start = await camera.message()
        assert start["status"] == 503

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("headers", "settings", "status"),
    [
        ({}, {}, None),
        ({"origin": "http://127.0.0.1:8000"}, {}, None),
        ({"origin": "https://lab.example"}, {"cors_origins": ("https://lab.example",)}, None),
        ({"x-api-key": "a-long-secret"}, {"admin_key": "a-long-secret"}, None),
        ({"origin": "https://evil.example"}, {}, 403),
        ({"origin": "https://evil.example"}, {"cors_origins": ("https://lab.example",)}, 403),
        ({"x-api-key": "wrong"}, {"admin_key": "a-long-secret"}, 403),
        ({}, {"admin_key": "a-long-secret"}, 401),
    ],
)
def test_only_who_may_call_opens_a_connection(
    headers: dict[str, str], settings: dict[str, Any], status: int | None
) -> None:
    async def scene(client: Client) -> None:
        async with Camera(client, PATH, headers={"host": "127.0.0.1:8000", **headers}) as camera:
            first = await camera.message()
            assert first["type"] == ("websocket.accept" if status is None else "websocket.http.response.start")
            assert first.get("status") == status

    play(scene, **settings)
