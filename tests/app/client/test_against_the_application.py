"""The client and the doors understand each other: the real application, with an engine that answers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

import tests.app.fakes as fakes
from app.client import Answer, AsyncClient, Refused
from app.errors import BusyError, EngineClosedError, ImageError
from app.types import StreamInfo


def run(server: fakes.Client, calls: Callable[[AsyncClient], Awaitable[Any]], **options: Any) -> Any:
    async def exchange() -> Any:
        transport = httpx.ASGITransport(app=server.app, raise_app_exceptions=False)
        async with (
            server.app.router.lifespan_context(server.app),
            AsyncClient("http://localhost:8000", transport=transport, **options) as client,
        ):
            return await calls(client)

    return asyncio.run(exchange())


def test_all_options_reach_the_engine() -> None:
    server = fakes.Client()
    pixels = np.zeros((2, 4, 4, 3), np.uint8)

    async def calls(client: AsyncClient) -> Answer:
        options: dict[str, Any] = {"stream": "zürich 7", "strategy": "bn", "params": {"k": [1, "ü"]}}
        return await client.predict([pixels, b"file"], **options, update=False, top_k=2)

    answer = run(server, calls)
    (call,) = server.engine.calls
    assert (call.stream, call.strategy, call.params, call.update, call.top_k) == (
        "zürich 7",
        "bn",
        {"k": [1, "ü"]},
        False,
        2,
    )
    assert isinstance(call.images, list)
    assert [image[:4] for image in call.images] == [b"\x89PNG", b"\x89PNG", b"file"]
    assert call.request_id is not None
    assert len(call.request_id) == 36
    assert (answer.model, answer.stream, answer.step, answer.updated) == ("fake-net", "zürich 7", 1, False)
    assert [[ranked.label for ranked in image.top_k] for image in answer.predictions] == [["cow", "dog"]] * 3


def test_by_default_a_model_with_few_classes_ranks_all() -> None:
    server = fakes.Client()
    server.engine.hosted = replace(server.engine.hosted, classes=["ant", "bee"])
    server.engine.probabilities = [0.25, 0.75]
    answer = run(server, lambda client: client.predict(b"image"))
    assert [len(image.top_k) for image in answer.predictions] == [2]


def test_every_other_call() -> None:
    async def calls(client: AsyncClient) -> None:
        assert await client.ready()
        await client.wait_until_ready(1)
        assert (await client.model()).name == "fake-net"
        assert "auto" in {strategy.name for strategy in await client.strategies() if strategy.default}
        assert (await client.streams()).capacity_bytes == 1000
        assert (await client.stream("camera-7").info())[0].steps == 3
        assert await client.stream("never seen").info() == []
        assert await client.stream("camera-7", strategy="bn").reset() == 2
        assert await client.reset() == 2

    server = fakes.Client()
    run(server, calls)
    assert server.engine.resets == [("camera-7", "bn"), (None, None)]


@pytest.mark.parametrize("name", ["...", "%2E%2E", "%2F", "a b?c#d", "ü", "a.b"])
def test_any_name_of_a_stream_stands_in_a_path(name: str) -> None:
    server = fakes.Client()
    names: list[str] = []

    async def show(name: str) -> list[StreamInfo]:
        names.append(name)
        return [fakes.STATE]

    server.engine.stream = show  # type: ignore[method-assign]
    assert len(run(server, lambda client: client.stream(name).info())) == 1
    assert names == [name]


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (ImageError("it is empty", hint="send bytes", image=1), 422, "unreadable_image"),
        (EngineClosedError("closing", hint="wait"), 503, "unavailable"),
        (BusyError("too many", hint="wait"), 503, "busy"),
        (RuntimeError("secret"), 500, "internal"),
    ],
)
def test_refusals_arrive_whole(failure: Exception, status: int, code: str) -> None:
    server = fakes.Client()
    server.engine.failure = failure
    with pytest.raises(Refused) as caught:
        run(server, lambda client: client.predict([b"one", b"two"]), retries=0)
    assert (caught.value.status, caught.value.code) == (status, code)
    if status == 422:
        assert (caught.value.where, caught.value.source) == ("files[1]", "image 1")
        assert caught.value.message == "it is empty; send bytes"


def test_the_key_opens_what_needs_one() -> None:
    for key, status in ((None, 401), ("wrong key", 403)):
        with pytest.raises(Refused) as caught:
            run(fakes.Client(admin_key="schlüssel"), lambda client: client.reset("s"), key=key)
        assert caught.value.status == status
    assert run(fakes.Client(admin_key="schlüssel"), lambda client: client.reset("s"), key="schlüssel") == 2
