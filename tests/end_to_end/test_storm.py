"""A thousand requests over sockets, of which a third break off somewhere: nobody else notices."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import httpx
import pytest

from tests.end_to_end.test_command import images, png
from tests.end_to_end.test_command import url as running_server

url = running_server  # the fixture, for a server of this module's own
pytestmark = pytest.mark.anyio
STREAMS, REQUESTS = 25, 40


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return [png(pixels) for pixels in images("fog")[:20]]


async def send(url: str, stream: str, file: bytes, *, update: bool, cut: int | None = None, wait: float = 0.0) -> Any:
    """One request over a connection of its own; with ``cut`` only so many bytes of it, and gone after ``wait``."""
    host, port = url.removeprefix("http://").split(":")
    head = (
        f"POST /v1/predict?stream={stream}&update={str(update).lower()} HTTP/1.1\r\nHost: {host}\r\n"
        f"Content-Length: {len(file)}\r\nConnection: close\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write((head.encode() + file)[:cut])
        await writer.drain()
        if cut is not None:
            await asyncio.sleep(wait)
            return None
        answer = await reader.read()
    finally:
        writer.close()
    status, _, body = answer.partition(b"\r\n\r\n")
    assert b" 200 " in status.split(b"\r\n")[0], answer
    return json.loads(body)


async def test_a_thousand_requests_of_which_a_third_break_off(url: str, files: list[bytes]) -> None:
    chance = random.Random(7)  # noqa: S311
    free = asyncio.Semaphore(60)

    async def client(stream: int) -> list[dict[str, Any]]:
        answers, leaving = [], []
        for i in range(REQUESTS):
            file = files[(stream + i) % len(files)]
            async with free:
                if chance.random() < 0.3:
                    # Those who leave look only, so that what the others get does not depend on when they left.
                    cut = chance.choice([10, 100, len(file) // 2, 10_000])
                    wait = chance.choice([0.0, 0.001, 0.01, 0.1])
                    leaving.append(
                        asyncio.ensure_future(send(url, f"storm-{stream}", file, update=False, cut=cut, wait=wait))
                    )
                else:
                    answers.append(await send(url, f"storm-{stream}", file, update=True))
        await asyncio.gather(*leaving)
        return answers

    found = await asyncio.gather(*(client(stream) for stream in range(STREAMS)))
    assert 600 < sum(map(len, found)) < 800
    for stream in (0, 7, 24):
        chosen = list(found[stream])
        assert [answer["step"] for answer in chosen] == list(range(1, len(chosen) + 1))
    async with httpx.AsyncClient(base_url=url) as quiet:
        assert (await quiet.get("/readyz")).status_code == 200
        held = {info["stream"]: info for info in (await quiet.get("/v1/streams")).json()["streams"]}
        for stream in range(STREAMS):
            assert held[f"storm-{stream}"]["steps"] == len(found[stream])


async def test_answers_in_the_storm_are_those_of_a_quiet_server(url: str, files: list[bytes]) -> None:
    async def leave(i: int) -> None:
        await send(url, f"gone-{i % 5}", files[i % len(files)], update=True, cut=10_000, wait=0.001 * (i % 7))

    async def stay(name: str) -> list[dict[str, Any]]:
        return [await send(url, name, file, update=True) for file in files]

    stormy, *_ = await asyncio.gather(stay("stormy"), *(leave(i) for i in range(200)))
    for ours, theirs in zip(stormy, await stay("quiet"), strict=True):
        assert ours["step"] == theirs["step"]
        for one, other in zip(ours["predictions"], theirs["predictions"], strict=True):
            assert one["label"] == other["label"]
            assert one["probability"] == pytest.approx(other["probability"], abs=2e-5)
