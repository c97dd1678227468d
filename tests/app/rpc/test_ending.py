"""Calls that end early: because their client goes away, or because the server does."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import grpc
import pytest

from app.types import Call, Prediction
from tests.app.fakes import Client, FakeEngine
from tests.app.rpc.doors import MODEL, Channel, ask, connected, talk

Code = grpc.StatusCode


class Slow(FakeEngine):
    """Answers when it is told to."""

    def hold(self) -> None:
        self.entered, self.told, self.cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def predict(self, call: Call) -> Prediction:
        self.entered.set()
        try:
            await self.told.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return await super().predict(call)


def slow(**settings: Any) -> tuple[Client, Slow]:
    client = Client(grpc_port=0, **settings)
    client.engine = engine = Slow(client.settings)
    return client, engine


@pytest.mark.parametrize("by_deadline", [False, True])
def test_disconnected_client_cancels_its_call(by_deadline: bool) -> None:
    client, engine = slow()

    async def use(channel: Channel) -> None:
        engine.hold()
        asking = asyncio.ensure_future(channel.call("ModelInfer", ask(), timeout=0.3 if by_deadline else None))
        await engine.entered.wait()
        if not by_deadline:
            asking.cancel()
        with pytest.raises(grpc.aio.AioRpcError if by_deadline else asyncio.CancelledError) as caught:
            await asking
        if by_deadline:
            assert cast(grpc.aio.AioRpcError, caught.value).code() is Code.DEADLINE_EXCEEDED
        await asyncio.wait_for(engine.cancelled.wait(), 5)
        engine.hold()
        engine.told.set()
        await channel.call("ModelInfer", ask())

    talk(client, use)
    assert len(engine.calls) == 1


def test_running_calls_finish_when_the_server_ends() -> None:
    client, engine = slow()

    async def whole() -> Any:
        engine.hold()
        context = client.app.router.lifespan_context(client.app)
        await context.__aenter__()
        async with connected(client) as channel:
            asking = asyncio.ensure_future(channel.call("ModelInfer", ask()))
            await engine.entered.wait()
            asyncio.get_running_loop().call_later(0.2, engine.told.set)
            await context.__aexit__(None, None, None)
            assert engine.closed == 1
            return await asking

    assert asyncio.run(whole()).model_name == MODEL


def test_running_calls_are_cancelled_at_the_deadline() -> None:
    client, engine = slow(drain_seconds=0.2)

    async def whole() -> grpc.StatusCode:
        engine.hold()
        context = client.app.router.lifespan_context(client.app)
        await context.__aenter__()
        async with connected(client) as channel:
            asking = asyncio.ensure_future(channel.call("ModelInfer", ask()))
            await engine.entered.wait()
            await asyncio.wait_for(context.__aexit__(None, None, None), 5)
            assert engine.cancelled.is_set()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asking
            return caught.value.code()

    assert asyncio.run(whole()) in (Code.UNAVAILABLE, Code.CANCELLED)
