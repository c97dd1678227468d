"""Messages and what is made of them are on the account of memory, and all of it comes back."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import numpy as np
import pytest
from grpc import StatusCode as Code

from app.errors import DeadlineError, ImageError
from app.resources.memory import Ledger
from app.rpc import server
from app.rpc.server import LEAST_ARRIVALS, _Arrivals
from app.types import Call, Prediction
from tests.app.fakes import Client, FakeEngine
from tests.app.http.cameras import until
from tests.app.rpc.doors import Channel, ask, refused, talk

IMAGES = np.full((2, 3, 32, 32), 0.5, np.float32)


class Seeing(FakeEngine):
    """Notes what the server holds while it answers."""

    def watch(self, ledger: Ledger) -> None:
        self.ledger, self.seen, self.gate = ledger, list[tuple[int, int]](), asyncio.Event()
        self.gate.set()

    async def predict(self, call: Call) -> Prediction:
        await self.gate.wait()
        self.seen.append((self.ledger.held["messages"], len(self.ledger.by_connection)))
        return await super().predict(call)


def made(**settings: Any) -> tuple[Client, Seeing, Ledger]:
    client = Client(grpc_port=0, **settings)
    client.engine = engine = Seeing(client.settings)
    engine.watch(client.state.memory)
    return client, engine, client.state.memory


FORMS = {"raw": ask(IMAGES, "FP32"), "typed": ask(IMAGES, "FP32", raw=False)}
each_form = pytest.mark.parametrize("form", FORMS)


@each_form
def test_memory_of_waiting_requests_is_returned(form: str) -> None:
    client, engine, ledger = made()
    talk(client, lambda channel: channel.call("ModelInfer", FORMS[form]))
    assert engine.seen == [(IMAGES.nbytes, 1)]
    assert (ledger.total, ledger.by_connection) == (0, {})


@each_form
@pytest.mark.parametrize("failure", [ImageError("no image"), DeadlineError("late"), RuntimeError("ours")], ids=repr)
def test_memory_is_returned_after_a_failure(form: str, failure: Exception) -> None:
    client, engine, ledger = made()
    engine.failure = failure
    refused(client, "ModelInfer", FORMS[form])
    assert (ledger.total, ledger.by_connection) == (0, {})


@pytest.mark.parametrize(
    ("form", "budget"), [("raw", 4 * 3 * IMAGES.nbytes), ("typed", 4 * 20 * IMAGES.nbytes)], ids=["raw", "typed"]
)
def test_request_above_the_memory_share_is_refused(form: str, budget: int) -> None:
    client, engine, ledger = made(max_memory_bytes=budget)
    code, text, about = refused(client, "ModelInfer", FORMS[form])
    assert (code, about["renorm-code"]) == (Code.RESOURCE_EXHAUSTED, "too_large")
    assert "RENORM_MAX_MEMORY_BYTES" in text
    assert engine.calls == []
    assert (ledger.total, ledger.refused["connection"]) == (0, 1)


def test_client_is_told_to_retry_while_others_hold_all_memory() -> None:
    client, engine, ledger = made()
    with ledger.open("bodies") as others:
        others.note(ledger.capacity - 10)
        code, _, about = refused(client, "ModelInfer", FORMS["raw"])
    assert (code, about["renorm-code"]) == (Code.UNAVAILABLE, "busy")
    assert int(about["retry-after"]) >= 1
    assert (ledger.total, engine.calls) == (0, [])


def test_calls_of_one_connection_share_its_share() -> None:
    client, engine, ledger = made(max_memory_bytes=4 * 6 * IMAGES.nbytes)

    async def use(channel: Channel) -> None:
        engine.gate.clear()
        calls = [asyncio.ensure_future(channel.call("ModelInfer", FORMS["raw"])) for _ in range(12)]
        await until(lambda: sum(call.done() for call in calls) + ledger.total // IMAGES.nbytes == 12)
        assert 3 <= ledger.total // IMAGES.nbytes <= 6
        assert list(ledger.by_connection.values()) == [ledger.total]
        engine.gate.set()
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert 3 <= sum(not isinstance(one, Exception) for one in found) <= 6

    talk(client, use)
    assert ledger.total == 0


class Context:
    """A call whose message comes when it is told to."""

    def __init__(self) -> None:
        self.gate, self.is_read = asyncio.Event(), False

    async def read(self) -> bytes:
        self.is_read = True
        await self.gate.wait()
        return b"message"


@pytest.mark.parametrize(("capacity", "most"), [(100, 100), (1000, 100)], ids=["little", "much"])
def test_no_more_messages_are_on_their_way_than_memory_allows(capacity: int, most: int) -> None:
    async def scene() -> None:
        arrivals = _Arrivals(cast(Any, None), Ledger(capacity, capacity), most)
        contexts = [Context() for _ in range(20)]
        reading = [asyncio.ensure_future(arrivals._read(cast(Any, context))) for context in contexts]
        allowed = max(LEAST_ARRIVALS, capacity // most)
        for _ in range(20):
            await asyncio.sleep(0)
        assert sum(context.is_read for context in contexts) == allowed
        contexts[0].gate.set()
        await reading[0]
        for _ in range(20):
            await asyncio.sleep(0)
        assert sum(context.is_read for context in contexts) == allowed + 1
        for context in contexts:
            context.gate.set()
        assert await asyncio.gather(*reading) == [b"message"] * 20

    asyncio.run(scene())


def test_a_message_that_does_not_come_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ARRIVAL_S", 0.0)

    async def scene() -> None:
        arrivals = _Arrivals(cast(Any, None), Ledger(100, 100), 100)
        for _ in range(2 * LEAST_ARRIVALS):
            with pytest.raises(DeadlineError, match="did not arrive within"):
                await arrivals._read(cast(Any, Context()))

    asyncio.run(scene())
