"""Calls that say more than images: a beginning, an end, a name, a time limit; and callers that go away."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
import torch

from app.engine import Engine
from app.errors import BusyError, DeadlineError, EngineClosedError, ImageError, UnanswerableError
from app.types import Call, Prediction
from tests.app.small import BLACK, Net, burst, core_of, png, same, small_engine, until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("core_kind")]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def engine(core_kind: str) -> AsyncIterator[Engine]:
    engine = small_engine()
    yield engine
    await engine.close()


def gate(engine: Engine) -> asyncio.Event:
    assert isinstance(engine.hosted.network, Net)
    return engine.hosted.network.gate  # type: ignore[return-value]


async def running(engine: Engine, call: Call) -> asyncio.Task[Prediction]:
    """A request whose forward runs until the gate is opened."""
    gate(engine).clear()
    task = asyncio.ensure_future(engine.predict(call))
    for _ in range(5000):
        if core_of(engine).batcher._running is not None:
            return task
        await asyncio.sleep(0.001)
    pytest.fail("the forward did not begin within five seconds")


def vars_of(answer: Prediction) -> dict[str, object]:
    """All of an answer, its times included: no other answer has them."""
    return {**vars(answer), "probabilities": answer.probabilities.tolist()}


async def names(engine: Engine) -> set[str]:
    return {info.stream for info in (await engine.streams()).streams}


async def test_a_request_that_begins_its_stream_is_answered_as_the_first_of_a_new_one(engine: Engine) -> None:
    for i in range(3):
        await engine.predict(Call([png(i)], "old"))
    again = await engine.predict(Call([png(7)], "old", start=True))
    assert same(again, await engine.predict(Call([png(7)], "new")))
    assert again.step == 1
    assert (await engine.predict(Call([png(8)], "old"))).step == 2


async def test_reset_forgets_a_stream_with_every_strategy(engine: Engine) -> None:
    await engine.predict(Call([png(1)], "s", "unmix_tns"))
    await engine.predict(Call([png(1)], "s", "adabn"))
    await engine.predict(Call([png(2)], "s", "adabn", start=True))
    assert [(info.strategy, info.steps) for info in (await engine.stream("s"))] == [("adabn", 1)]


async def test_the_last_request_is_answered_from_the_stream_that_it_ends(engine: Engine) -> None:
    for i in range(2):
        await engine.predict(Call([png(i)], "s"))
        await engine.predict(Call([png(i)], "t"))
    last = await engine.predict(Call([png(5)], "s", end=True))
    assert same(last, await engine.predict(Call([png(5)], "t")))
    assert await names(engine) == {"t"}


@pytest.mark.parametrize("bad", [b"no image", BLACK])
async def test_one_that_is_not_answered_neither_begins_nor_ends_anything(bad: bytes) -> None:
    engine = small_engine("nan")
    await engine.predict(Call([png(1)], "s"))
    for start, end in ((True, False), (False, True), (True, True)):
        with pytest.raises((ImageError, UnanswerableError)):
            await engine.predict(Call([bad], "s", start=start, end=end))
    assert (await engine.predict(Call([png(2)], "s"))).step == 2
    await engine.close()


async def test_sequences_under_load_are_those_of_quiet_streams(engine: Engine) -> None:
    calls = [
        Call([png(10 * s + i)], f"s{s}", start=i == 0, end=i == 3, update=i != 2)
        for _ in range(2)
        for i in range(4)
        for s in range(5)
    ]
    found = await burst(engine, calls)
    assert await names(engine) == {"first"}
    alone = small_engine()
    for call, answer in zip(calls, found, strict=True):
        assert isinstance(answer, Prediction)
        assert same(answer, await alone.predict(call))
    await alone.close()


async def test_a_request_sent_again_takes_no_second_step(engine: Engine, core_kind: str) -> None:
    call = Call([png(1)], "s", request_id="one")
    first = await engine.predict(call)
    again = await engine.predict(call)
    assert again is first if core_kind == "here" else vars_of(again) == vars_of(first)
    assert (await engine.predict(Call([png(1)], "s", request_id="two"))).step == 2
    assert (await engine.predict(Call([png(1)], "other", request_id="one"))).step == 1


async def test_requests_of_one_name_at_once_take_one_step(engine: Engine, core_kind: str) -> None:
    found = await burst(engine, [Call([png(1)], "s", request_id="one") for _ in range(1)])
    many = await asyncio.gather(*(engine.predict(Call([png(2)], "s", request_id="two")) for _ in range(20)))
    assert isinstance(found[0], Prediction)
    if core_kind == "here":
        assert {id(answer) for answer in many} == {id(many[0])}
    assert all(vars_of(answer) == vars_of(many[0]) for answer in many)
    assert many[0].step == 2


async def test_a_request_that_failed_may_be_sent_again_under_its_name(engine: Engine) -> None:
    with pytest.raises(ImageError):
        await engine.predict(Call([b"no image"], "s", request_id="one"))
    assert (await engine.predict(Call([png(1)], "s", request_id="one"))).step == 1


async def test_caller_cancelled_during_the_step_gets_its_answer_later(engine: Engine) -> None:
    call = Call([png(1)], "s", request_id="one")
    task = await running(engine, call)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    again = asyncio.ensure_future(engine.predict(call))
    await asyncio.sleep(0.01)
    gate(engine).set()
    assert (await again).step == 1
    assert (await engine.stream("s"))[0].steps == 1


@pytest.mark.parametrize("request_id", [None, "one"])
async def test_caller_cancelled_before_its_forward_takes_no_step(engine: Engine, request_id: str | None) -> None:
    first = await running(engine, Call([png(1)], "first"))
    waiting = asyncio.ensure_future(engine.predict(Call([png(2)], "s", request_id=request_id)))
    await asyncio.sleep(0.02)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate(engine).set()
    await first
    assert (await engine.predict(Call([png(2)], "s", request_id=request_id))).step == 1
    assert len(core_of(engine).batcher) == 0
    await until(lambda: engine._budget.lent == 0)


async def test_a_request_whose_time_is_over_takes_no_step(engine: Engine) -> None:
    first = await running(engine, Call([png(1)], "first"))
    late = [
        asyncio.ensure_future(engine.predict(Call([png(2)], "s", timeout_s=0.03, request_id=name)))
        for name in (None, "one")
    ]
    for error in await asyncio.gather(*late, return_exceptions=True):
        assert isinstance(error, DeadlineError)
        assert "0.03 s" in str(error)
    gate(engine).set()
    await first
    assert await names(engine) == {"first"}
    assert len(core_of(engine).batcher) == 0


async def test_the_time_counts_until_the_forward_begins(engine: Engine) -> None:
    task = await running(engine, Call([png(1)], "s", timeout_s=0.03))
    await asyncio.sleep(0.1)
    gate(engine).set()
    assert (await task).step == 1


async def test_the_servers_own_time_limit_holds_for_requests_that_say_none() -> None:
    engine = small_engine(timeout=0.03)
    first = await running(engine, Call([png(1)], "first"))
    with pytest.raises(DeadlineError):
        await engine.predict(Call([png(2)], "s"))
    patient = asyncio.ensure_future(engine.predict(Call([png(2)], "s", timeout_s=10)))
    await asyncio.sleep(0.06)
    gate(engine).set()
    await first
    assert (await patient).step == 1
    await engine.close()


async def test_requests_beyond_what_may_wait_are_refused_and_change_nothing() -> None:
    engine = small_engine(max_waiting=3)
    first = await running(engine, Call([png(0)], "first"))
    tasks = [asyncio.ensure_future(engine.predict(Call([png(i)], f"s{i}"))) for i in range(8)]
    await asyncio.sleep(0.05)
    gate(engine).set()
    found = await asyncio.gather(first, *tasks, return_exceptions=True)
    assert [isinstance(answer, Prediction) for answer in found] == [True] * 4 + [False] * 5
    assert all(isinstance(answer, BusyError) for answer in found[4:])
    assert await names(engine) == {"first", "s0", "s1", "s2"}
    await engine.close()


async def test_a_thousand_requests_of_which_a_third_go_away_at_any_moment(engine: Engine) -> None:
    """Every other one is answered as if nothing had happened, and each stream has taken exactly the steps it should."""
    chance = random.Random(5)  # noqa: S311
    images = [png(i) for i in range(16)]
    streams = {f"s{s}": [chance.random() < 0.3 for _ in range(50)] for s in range(20)}
    calls = [(name, i, gone) for i in range(50) for name, leaves in streams.items() for gone in [leaves[i]]]

    async def client(name: str, i: int, *, gone: bool) -> Prediction | None:
        # Those who leave look only, so that what the others get does not depend on when they left.
        call = Call([images[(i + len(name)) % 16]], name, update=not gone)
        task = asyncio.ensure_future(engine.predict(call))
        if not gone:
            return await task
        await asyncio.sleep(chance.choice([0.0, 0.0, 0.001, 0.02, 0.1, 0.3]))
        task.cancel()
        await asyncio.wait([task])
        return None

    engine.settings = engine.settings.model_copy(update={"max_waiting": 2000})
    core_of(engine).batcher._limits = core_of(engine).batcher._limits._replace(waiting=2000)
    answers = await asyncio.gather(*(client(name, i, gone=gone) for name, i, gone in calls))
    alone = small_engine()
    for (name, i, gone), answer in zip(calls, answers, strict=True):
        if gone:
            continue
        assert answer is not None
        assert same(answer, await alone.predict(Call([images[(i + len(name)) % 16]], name)))
    assert len(core_of(engine).batcher) == 0
    await until(lambda: engine._budget.lent == 0)
    await alone.close()


async def test_a_model_thread_that_ends_fails_all_at_once_and_shows(core_kind: str) -> None:
    engine = small_engine("exit")
    if core_kind == "linked":  # the process of a core ends with its thread, see tests/app/serving/processes
        await engine.close()
        return
    doomed = await running(engine, Call([BLACK], "s"))
    waiting = [asyncio.ensure_future(engine.predict(Call([png(i)], f"w{i}"))) for i in range(3)]
    await asyncio.sleep(0.02)
    gate(engine).set()
    found = await asyncio.wait_for(asyncio.gather(doomed, *waiting, return_exceptions=True), 5)
    assert [type(error) for error in found] == [EngineClosedError] * 4
    assert not engine.alive
    assert not await engine.ping(5)
    await engine.close()


async def test_closing_waits_no_longer_than_told(core_kind: str) -> None:
    engine = small_engine()
    task = await running(engine, Call([png(1)], "s"))
    await asyncio.wait_for(engine.close(0.05), 5)
    if core_kind == "here":
        assert not task.done()
        gate(engine).set()
        assert (await task).step == 1
        return
    gate(engine).set()
    with pytest.raises(EngineClosedError):  # what runs in a process ends with it
        await task


async def test_statistics_count_requests_images_and_forwards(engine: Engine) -> None:
    await burst(engine, [Call([png(i)] * 2, f"s{i}") for i in range(3)])
    with pytest.raises(ImageError):
        await engine.predict(Call([b"no image"]))
    found = engine.statistics()
    assert (found.success.count, found.fail.count) == (4, 1)
    assert (found.inference_count, found.execution_count) == (7, 2)
    assert set(found.batches) == {1, 6}
    parts = found.queue.ns + found.compute_input.ns + found.compute_infer.ns
    assert 0 < parts <= found.success.ns + 12_000  # each is rounded to a microsecond
    assert found.last_inference_ms > 1.7e12
    assert all(batch.compute_infer.count == 1 for batch in found.batches.values())


async def test_a_snapshot_holds_every_stream(engine: Engine) -> None:
    await engine.predict(Call([png(1)], "a"))
    await engine.predict(Call([png(2)], "b", "unmix_tns"))
    found = (await engine.snapshot())["streams"]
    told = [(one["stream"], one["strategy"], one["steps"]) for one in found]
    assert told == [("a", "adabn", 1), ("b", "unmix_tns", 1)]


async def test_a_deadline_that_is_over_at_once_does_not_end_the_server(engine: Engine) -> None:
    prepared = torch.zeros(1, 3, 8, 8)  # nothing to decode: it is in its forward before the loop turns
    await asyncio.gather(engine.predict(Call(prepared, "s", timeout_s=1e-9)), return_exceptions=True)
    assert (await asyncio.wait_for(engine.predict(Call([png(1)], "t")), 10)).step == 1
