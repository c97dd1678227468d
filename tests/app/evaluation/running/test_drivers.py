"""An engine in this process and a server over HTTP answer alike."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from torch import nn

from app.client import AsyncClient, Refused
from app.engine import Engine
from app.evaluation.running.drivers import (
    Driver,
    EngineDriver,
    Images,
    Predictions,
    ServerDriver,
    server_driver,
    weights_digest,
)
from app.main import create_app
from app.settings import Settings
from tests.app.client.mock import error_response, prediction_response
from tests.app.small import png, small_engine

BATCHES = (1, 3, 1, 5, 2)


@asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[ServerDriver]:
    """A driver of a server with the small network, in this process."""

    async def opened(*_: object) -> Engine:
        return small_engine(**settings)

    app = create_app(Settings(**settings), opened)
    async with app.router.lifespan_context(app):
        client = AsyncClient("http://localhost:8000", transport=httpx.ASGITransport(app))
        yield ServerDriver(client)
        await client.aclose()


@asynccontextmanager
async def in_process() -> AsyncIterator[EngineDriver]:
    driver = EngineDriver(small_engine())
    yield driver
    await driver.close()


def requests() -> list[Images]:
    generator = torch.Generator().manual_seed(1)
    pixels: list[Images] = [
        torch.randint(0, 256, (n, 8, 8, 3), dtype=torch.uint8, generator=generator) for n in BATCHES
    ]
    return [*pixels, [png(1), png(2)]]


async def stream(driver: Driver, strategy: str = "unmix_tns") -> tuple[list[Predictions], int]:
    """The answers to one stream that is new twice, and its bytes at the end."""
    answers = [
        await driver.predict(images, "a", strategy, {"components": 4}, start=i in (0, 4))
        for i, images in enumerate(requests())
    ]
    return answers, await driver.state_bytes("a")


def test_server_and_engine_give_equal_predictions() -> None:
    async def ask_both() -> tuple[tuple[list[Predictions], int], tuple[list[Predictions], int]]:
        async with in_process() as near, served() as far:
            return await stream(near), await stream(far)

    (near, near_bytes), (far, far_bytes) = asyncio.run(ask_both())
    assert [answer.step for answer in near] == [1, 2, 3, 4, 1, 2] == [answer.step for answer in far]
    assert near_bytes == far_bytes > 0
    for answer, server_answer, images in zip(near, far, requests(), strict=True):
        assert answer.predicted.tolist() == server_answer.predicted.tolist()
        assert answer.predicted.dtype == server_answer.predicted.dtype == np.int64
        assert answer.confidence.shape == (len(images),)
        # A server writes six digits.
        np.testing.assert_allclose(answer.confidence, server_answer.confidence, rtol=1e-5)
        np.testing.assert_allclose(
            [answer.entropy, answer.drift], [server_answer.entropy, server_answer.drift], rtol=1e-4
        )


@pytest.mark.parametrize("kind", [in_process, served])
def test_a_reset_stream_is_new_and_has_no_state(kind: Any) -> None:
    async def run() -> list[Any]:
        async with kind() as driver:
            (first, *_), size = await stream(driver)
            await driver.reset("a")
            await driver.reset("never seen")
            forgotten = await driver.state_bytes("a")
            again = await driver.predict(requests()[0], "a", "unmix_tns", {"components": 4}, start=False)
            return [size > 0, forgotten, again.step, np.array_equal(again.predicted, first.predicted)]

    assert asyncio.run(run()) == [True, 0, 1, True]


@pytest.mark.parametrize("kind", [in_process, served])
def test_a_request_without_update_teaches_nothing(kind: Any) -> None:
    async def run() -> tuple[int, int]:
        async with kind() as driver:
            await driver.predict(requests()[0], "a", "adabn", {}, start=True, update=False)
            forgotten = await driver.state_bytes("a")
            return forgotten, (await driver.predict(requests()[0], "a", "adabn", {}, start=False)).step

    assert asyncio.run(run()) == (0, 1)


class Keyless:
    """A server that lets nobody reset, and one that knows no drift."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.streams: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.paths.append(request.url.path)
        if request.url.path == "/v1/admin/reset":
            return error_response(self.status, "forbidden")
        self.streams.append(request.content.decode("latin-1").split('name="stream"\r\n\r\n')[1].split("\r\n")[0])
        return prediction_response(drift=None)

    status = 403


def test_without_permission_to_reset_new_streams_get_new_names() -> None:
    server = Keyless()

    async def run() -> Predictions:
        async with AsyncClient(transport=httpx.MockTransport(server)) as client:
            driver = ServerDriver(client)
            for start in (True, False, True, True, False):
                answer = await driver.predict([png(1)], "a", "bn", {}, start=start)
            return answer

    assert np.isnan(asyncio.run(run()).drift)
    a, b, c, d, e = server.streams
    assert a == b != c != d == e
    assert a != d
    assert all(name.startswith("evaluation-") for name in server.streams)
    assert server.paths.count("/v1/admin/reset") == 1, "who is refused once does not ask again"


def test_other_errors_of_a_reset_are_raised() -> None:
    server = Keyless()
    server.status = 422

    async def run() -> None:
        async with AsyncClient(transport=httpx.MockTransport(server)) as client:
            driver = ServerDriver(client)
            await driver.predict([png(1)], "a", "bn", {}, start=True)
            await driver.reset("a")

    with pytest.raises(Refused):
        asyncio.run(run())


def test_identity_names_the_model_for_server_and_engine() -> None:
    async def ask_both() -> tuple[dict[str, str], dict[str, str]]:
        async with in_process() as near, served() as far:
            # A server describes itself after its first forward.
            await stream(far)
            return await near.identity(), await far.identity()

    near, far = asyncio.run(ask_both())
    assert near.pop("weights") != far.pop("weights")
    assert near == far
    assert near["model"] == "net"
    json.dumps(near)


def test_place_hides_passwords_of_the_url() -> None:
    assert server_driver("http://me:secret@localhost:8000/").place == "the server at http://localhost:8000"
    assert EngineDriver(small_engine()).place == "this process, on cpu"


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float64])
def test_weights_digest_changes_with_the_weights(kind: torch.dtype) -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).to(kind)
    digest = weights_digest(network)
    assert digest == weights_digest(network)
    with torch.no_grad():
        network.state_dict()["1.running_var"][2] += 0.25
    assert weights_digest(network) != digest
