"""Decoding, forwards and answers overlap, and what waits between them is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest
import torch
from torch import Tensor

from adapters import AdaptiveModel, Request
from app.engine import Engine
from app.errors import EngineClosedError, ImageError
from app.serving.tickets import Ticket
from app.types import Call, Prediction
from tests.app.small import Net, core_of, png, same, small_engine

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("core_kind")]
IMAGE_BYTES = 8 * 8 * 3


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def network(engine: Engine) -> Net:
    assert isinstance(engine.hosted.network, Net)
    return engine.hosted.network


def start(engine: Engine, *calls: Call) -> list[asyncio.Task[Prediction]]:
    return [asyncio.ensure_future(engine.predict(call)) for call in calls]


def decoded(engine: Engine) -> int:
    """How many requests wait with their pixels."""
    return sum(isinstance(place, Ticket) and place.images is not None for place in core_of(engine).batcher._queue)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    pytest.fail("it did not come to that within five seconds")


async def held(engine: Engine) -> asyncio.Task[Prediction]:
    """A request whose forward runs until the gate of the network is opened."""
    network(engine).gate.clear()
    (first,) = start(engine, Call([png(99)], "first"))
    await until(lambda: core_of(engine).batcher._running is not None)
    return first


async def test_the_next_requests_are_decoded_while_a_forward_runs() -> None:
    engine = small_engine()
    first = await held(engine)
    tasks = start(engine, *(Call([png(i)], f"s{i}") for i in range(6)))
    await until(lambda: decoded(engine) == 6)
    assert not first.done()
    network(engine).gate.set()
    await asyncio.gather(first, *tasks)
    await engine.close()


async def test_the_next_forward_runs_before_the_answers_of_the_last_are_taken_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, order = small_engine(), list[str]()
    collect = core_of(engine).batcher._collect

    def spy() -> list[Ticket]:
        group = collect()
        order.extend(f"forward of {ticket.key.stream}" for ticket in group)
        return group

    monkeypatch.setattr(core_of(engine).batcher, "_collect", spy)
    first = await held(engine)
    first.add_done_callback(lambda _: order.append("answer of first"))
    tasks = start(engine, Call([png(1)], "second"))
    await until(lambda: decoded(engine) == 1)
    network(engine).gate.set()
    await asyncio.gather(first, *tasks)
    assert order == ["forward of first", "forward of second", "answer of first"]
    await engine.close()


async def test_pixels_that_wait_are_bounded_and_everybody_is_answered_in_order() -> None:
    engine, alone = small_engine(max_waiting_bytes=4 * IMAGE_BYTES), small_engine()
    first = await held(engine)
    calls = [Call([png(i), png(i + 50)], f"s{i % 2}") for i in range(8)]
    tasks = start(engine, *calls)
    await until(lambda: decoded(engine) == 1)
    await asyncio.sleep(0.05)
    # One image runs and two wait; the next two would be one too many.
    assert (decoded(engine), engine._budget.lent, len(engine._budget)) == (1, 3 * IMAGE_BYTES, 7)
    network(engine).gate.set()
    await first
    for call, answer in zip(calls, await asyncio.gather(*tasks), strict=True):
        assert same(answer, await alone.predict(call))
    assert engine._budget.lent == 0
    await engine.close()
    await alone.close()


async def test_a_request_larger_than_the_bound_is_answered_alone() -> None:
    engine = small_engine(max_waiting_bytes=1)
    answers = await asyncio.gather(*start(engine, *(Call([png(i)] * 5, "s") for i in range(4))))
    assert [answer.step for answer in answers] == [1, 2, 3, 4]
    assert engine._budget.lent == 0
    await engine.close()


async def test_failing_and_cancelled_requests_give_back_what_they_held() -> None:
    engine = small_engine(max_waiting_bytes=3 * IMAGE_BYTES)  # of which one client may hold two
    first = await held(engine)
    bad, waiting, behind, last = start(
        engine, Call([b"no image"], "a"), Call([png(1)], "a"), Call([png(2)], "a"), Call([png(3)], "b")
    )
    with pytest.raises(ImageError):
        await bad
    await until(lambda: decoded(engine) == 1)
    for gone in (behind, waiting):  # one that waits for its turn to be decoded, and one that is decoded
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await gone
    await until(lambda: decoded(engine) == 1)
    network(engine).gate.set()
    await asyncio.gather(first, last)
    assert (engine._budget.lent, len(engine._budget), len(core_of(engine).batcher)) == (0, 0, 0)
    assert {info.stream for info in (await engine.streams()).streams} == {"first", "b"}
    await engine.close()


async def test_closing_answers_the_running_request_and_refuses_all_that_wait() -> None:
    engine = small_engine(max_waiting_bytes=3 * IMAGE_BYTES)  # of which one client may hold two
    first = await held(engine)
    waiting = start(engine, *(Call([png(i)], f"s{i}") for i in range(4)))
    await until(lambda: decoded(engine) == 1 and len(engine._budget) == 3)
    closing = asyncio.ensure_future(engine.close())
    await until(lambda: core_of(engine).batcher._closed)
    network(engine).gate.set()
    refused = await asyncio.gather(*waiting, return_exceptions=True)
    await closing
    assert (await first).step == 1
    assert [type(error) for error in refused] == [EngineClosedError] * 4
    assert engine._budget.lent == 0


async def test_the_network_is_held_once() -> None:
    engine = small_engine()
    assert core_of(engine).model._network is engine.hosted.network
    await engine.close()


async def test_the_model_gets_pixels_as_they_were_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, seen = small_engine(), list[Tensor]()
    run = AdaptiveModel.run

    def spy(self: AdaptiveModel, requests: list[Request], memories: object) -> object:
        seen.extend(request.images for request in requests)
        return run(self, requests, memories)  # type: ignore[arg-type]

    monkeypatch.setattr(AdaptiveModel, "run", spy)
    await engine.predict(Call([png(1), png(2)]))
    assert [(images.dtype, tuple(images.shape)) for images in seen] == [(torch.uint8, (2, 8, 8, 3))]
    await engine.close()


async def test_bfloat16_answers_close_to_single_precision_and_remembers_in_it() -> None:
    engine, half = small_engine(), small_engine(dtype="bfloat16")
    calls = [Call([png(i), png(i + 50)], "s") for i in range(3)]
    for call in calls:
        exact, rounded = await engine.predict(call), await half.predict(call)
        assert torch.allclose(exact.probabilities, rounded.probabilities, atol=0.05)
    memories = core_of(half).table.memories(set(core_of(half).table._records))
    assert {memory.row.dtype for memory in memories.values()} == {torch.float32}
    assert (await half.stream("s"))[0].bytes == half.describe().state_bytes["adabn"]
    await engine.close()
    await half.close()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
async def test_a_gpu_answers_as_the_cpu_does() -> None:
    engine, gpu = small_engine(), small_engine(device="cuda")
    for strategy in ("source", "adabn", "unmix_tns"):
        for i in range(3):
            call = Call([png(i), png(i + 50)], "s", strategy)
            exact, answer = await engine.predict(call), await gpu.predict(call)
            assert torch.allclose(exact.probabilities, answer.probabilities, atol=1e-3)
            assert exact.classes == answer.classes
    assert core_of(gpu).model.device.type == "cuda"
    await engine.close()
    await gpu.close()
