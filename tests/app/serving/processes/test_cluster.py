"""Engines in processes of their own, which answer as one in this process does, and may die."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from adapters import UnknownStrategyError
from app.engine import Engine
from app.errors import BusyError, DeadlineError, EngineClosedError, ModelError, StreamNotFoundError
from app.serving.processes import remote_core
from app.serving.processes.cluster import EngineCluster, share
from app.types import Call, Prediction
from tests.app.serving.processes.fragile import EXIT, GATE, KILL, RAISE, WAIT, grey, noise, settings_of
from tests.app.small import same, until

pytestmark = pytest.mark.anyio
STREAMS = [f"camera-{i}" for i in range(6)]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the files that hold up forwards."""
    folder = tmp_path_factory.mktemp("gate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(GATE, str(folder))
        yield folder


@pytest.fixture(scope="module")
async def shared(gate: Path) -> AsyncIterator[Engine]:
    """Two processes, whose tests leave them as they were."""
    engine = await Engine.open(settings_of(workers=2))
    yield engine
    await engine.close(10)


@pytest.fixture
async def engine(shared: Engine) -> Engine:
    await shared.reset()
    return shared


def cluster(engine: Engine) -> EngineCluster:
    assert isinstance(engine.core, EngineCluster)
    return engine.core


def owner(engine: Engine, stream: str) -> remote_core.RemoteCore:
    return cluster(engine)._core_of(stream)


def other_stream(engine: Engine, stream: str) -> str:
    """A stream of another engine."""
    return next(name for name in STREAMS if owner(engine, name) is not owner(engine, stream))


def processes() -> Iterator[int]:
    """All processes that are descended from this one's zygotes."""
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{int(name)}/cmdline", "rb") as file:
            if b"processes import zygote" in file.read():
                yield int(name)


async def test_streams_of_two_processes_are_answered_as_in_one(engine: Engine) -> None:
    alone = await Engine.open(settings_of(workers=0))
    calls = [Call(noise(10 * i, 1 + i % 3), stream) for i in range(4) for stream in STREAMS]
    answers = await asyncio.gather(*(engine.predict(call) for call in calls))
    for call, answer in zip(calls, answers, strict=True):
        assert same(answer, await alone.predict(call))
    assert {owner(engine, stream).index for stream in STREAMS} == {0, 1}
    both, single = await engine.streams(), await alone.streams()
    assert {info.stream: info.steps for info in both.streams} == dict.fromkeys(STREAMS, 4)
    assert (both.bytes, len(both.streams)) == (single.bytes, len(single.streams))
    assert [info.age_s for info in both.streams] == sorted(info.age_s for info in both.streams)
    assert engine.statistics().inference_count == alone.statistics().inference_count
    snapshots = [(await each.snapshot())["streams"] for each in (engine, alone)]
    key = lambda state: state["stream"]  # noqa: E731
    for mine, other in zip(*(sorted(states, key=key) for states in snapshots), strict=True):
        for name, value in other.items():
            if isinstance(value, Tensor):
                torch.testing.assert_close(mine[name], value, rtol=1e-4, atol=1e-5)
        assert [mine[name] for name in ("stream", "strategy", "steps")] == [other["stream"], other["strategy"], 4]
    await alone.close()


async def test_questions_of_the_doors_are_answered(engine: Engine) -> None:
    await asyncio.gather(*(engine.predict(Call(noise(i), stream)) for i, stream in enumerate(STREAMS)))
    assert (await engine.stream(STREAMS[0]))[0].steps == 1
    with pytest.raises(StreamNotFoundError, match="nobody"):
        await engine.stream("nobody")
    assert len(await engine.explanations(4)) == 4
    assert [part.held for part in await engine.memory()] == [0, 0, 0]
    assert torch.is_tensor(await engine.moments(noise(1, 2)))
    assert engine.describe().architecture == "Fragile"
    assert await engine.ping(30)
    assert engine.alive
    assert len({process.pid for process in engine.processes} - {os.getpid()}) == 2
    with pytest.raises(UnknownStrategyError):
        await engine.reset(strategy="magic")
    assert await engine.reset(STREAMS[0]) == 1
    assert await engine.reset(strategy="adabn") == len(STREAMS) - 1


async def test_requests_of_a_stream_step_in_the_order_in_which_they_came(engine: Engine) -> None:
    calls = [Call(noise(i), STREAMS[i % 2]) for i in range(40)]
    answers = await asyncio.gather(*(engine.predict(call) for call in calls))
    assert [answer.step for answer in answers] == [1 + i // 2 for i in range(40)]


async def test_times_count_from_the_arrival_and_so_do_time_limits(engine: Engine, gate: Path) -> None:
    """Also while the engine is in a forward, and reads nothing."""
    (gate / "begun").unlink(missing_ok=True)
    (gate / "hold").touch()
    held_up = asyncio.ensure_future(engine.predict(Call(grey(WAIT), "s")))
    await until((gate / "begun").exists)
    waiting = asyncio.ensure_future(engine.predict(Call(noise(1), "s")))
    late = asyncio.ensure_future(engine.predict(Call(noise(2), "s", timeout_s=0.01)))
    await asyncio.sleep(0.1)
    (gate / "hold").unlink()
    assert (await held_up).step == 1
    answer = await waiting
    assert answer.step == 2
    assert answer.timing.queue > 50
    assert answer.timing.total >= answer.timing.queue + answer.timing.forward - 1
    with pytest.raises(DeadlineError):
        await late
    assert (await engine.stream("s"))[0].steps == 2


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
async def test_images_too_large_for_the_slab_travel_beside_it(
    engine: Engine, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    images: Tensor = noise(3, 5)
    if dtype == torch.float32:
        images = images.permute(0, 3, 1, 2) / 255
    usual = await engine.predict(Call(images, "s"))
    monkeypatch.setattr("app.serving.processes.slab.Slab.put", lambda *_: None)
    assert same(await engine.predict(Call(images, "s", start=True)), usual)


async def test_a_request_that_fails_in_the_network_fails_alone(engine: Engine) -> None:
    found = await asyncio.gather(
        engine.predict(Call(grey(RAISE), "s")), engine.predict(Call(noise(1), "t")), return_exceptions=True
    )
    assert isinstance(found[0], RuntimeError)
    assert "a grey image" in str(found[0])
    assert isinstance(found[1], Prediction)


@pytest.mark.parametrize("death", [KILL, EXIT])
async def test_an_engine_that_dies_costs_its_requests_alone(
    engine: Engine, death: int, caplog: pytest.LogCaptureFixture
) -> None:
    victim, other = STREAMS[0], other_stream(engine, STREAMS[0])
    for stream in (victim, other):
        await engine.predict(Call(noise(1), stream))
    core, bystander = owner(engine, victim), owner(engine, other).pid
    restarts, pid = core.restarts, core.pid
    doomed = [asyncio.ensure_future(engine.predict(Call(grey(death), victim)))]
    doomed += [asyncio.ensure_future(engine.predict(Call(noise(i), victim))) for i in range(3)]
    assert (await engine.predict(Call(noise(2), other))).step == 2
    for error in await asyncio.gather(*doomed, return_exceptions=True):
        assert isinstance(error, BusyError)
        assert "initial state" in error.hint
    again = await engine.predict(Call(noise(2), victim))
    assert (again.step, again.state_origin) == (1, "lost")
    assert (await engine.predict(Call(noise(2), victim))).state_origin == "live"
    assert (await engine.predict(Call(noise(2), "never before", "bn"))).state_origin == "new"
    assert (core.restarts, core.pid == pid, owner(engine, other).pid) == (restarts + 1, False, bystander)
    assert ("SIGKILL" if death == KILL else "status 3") in caplog.text
    await until(lambda: engine._budget.lent == 0)
    assert core._slab.taken_bytes == 0


async def test_engines_killed_under_load_answer_nothing_wrong_and_come_back(engine: Engine) -> None:
    """Whatever is answered between two deaths is what a new stream answers to the same requests."""
    calls = {stream: [Call(noise(100 * index + i), stream) for i in range(8)] for index, stream in enumerate(STREAMS)}
    expected = {}
    for stream, requests in calls.items():
        expected[stream] = [await engine.predict(call) for call in requests]
    await engine.reset()
    refused = 0
    for round_number in range(20):
        core = cluster(engine).cores[round_number % 2]

        async def camera(stream: str) -> int:
            step, refusals = 0, 0
            while step < len(calls[stream]):
                try:
                    answer = await engine.predict(calls[stream][step])
                except BusyError:
                    step, refusals = 0, refusals + 1
                    continue
                if answer.step != step + 1:  # it died between two requests
                    assert (answer.step, answer.state_origin) == (1, "lost")
                    await engine.reset(stream)
                    step = 0
                    continue
                assert same(answer, expected[stream][step])
                step += 1
            return refusals

        cameras = [asyncio.ensure_future(camera(stream)) for stream in STREAMS]
        await asyncio.sleep(0.005 * (round_number % 5))
        os.kill(core.pid or 0, signal.SIGKILL)
        refused += sum(await asyncio.wait_for(asyncio.gather(*cameras), 60))
        assert await engine.ping(30)
        await engine.reset()
    assert engine.alive
    assert sum(process.restarts for process in engine.processes) >= 20
    await until(lambda: engine._budget.lent == 0)


async def test_calls_wait_for_an_engine_that_is_being_restarted(engine: Engine) -> None:
    core = owner(engine, "s")
    os.kill(core.pid or 0, signal.SIGKILL)
    await until(lambda: core._link is None)
    answers = await asyncio.gather(*(engine.predict(Call(noise(i), "s")) for i in range(5)))
    assert [answer.step for answer in answers] == [1, 2, 3, 4, 5]


async def test_a_crash_loop_ends_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_core, "PAUSE_S", 0.001)
    engine = await Engine.open(settings_of(workers=2))
    victim = STREAMS[0]
    for _ in range(remote_core.FRUITLESS_LIVES):
        with pytest.raises(BusyError):
            await engine.predict(Call(grey(KILL), victim))
    with pytest.raises(EngineClosedError, match=r"ended 5 times without an answer; the last time SIGKILL ended it"):
        await engine.predict(Call(noise(1), victim))
    assert engine.outage.startswith("engine ")
    assert not engine.alive
    assert not await engine.ping(30)
    assert (await engine.predict(Call(noise(1), other_stream(engine, victim)))).step == 1
    await engine.close(10)


async def test_without_the_process_that_forks_engines_another_is_started(caplog: pytest.LogCaptureFixture) -> None:
    engine = await Engine.open(settings_of(workers=1))
    zygote = cluster(engine)._launcher._process
    assert zygote is not None
    zygote.end()
    assert (await engine.predict(Call(noise(1), "s"))).step == 1
    os.kill(owner(engine, "s").pid or 0, signal.SIGKILL)
    await until(lambda: owner(engine, "s")._link is None)
    assert (await asyncio.wait_for(engine.predict(Call(noise(1), "s")), 60)).state_origin == "lost"
    await engine.close(10)


async def test_closing_ends_every_process_and_says_what_is_dropped(
    gate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = set(processes())
    (gate / "begun").unlink(missing_ok=True)
    engine = await Engine.open(settings_of(workers=2))
    assert len(set(processes()) - before) == 3
    await engine.predict(Call(noise(1), "s"))
    running = asyncio.ensure_future(engine.predict(Call(grey(WAIT), "s")))
    await until((gate / "begun").exists)
    with caplog.at_level(logging.INFO, "renorm.server"):
        await engine.close(30)
    assert (await running).step == 2
    assert "1 states of 1 streams are dropped" in caplog.text
    assert set(processes()) <= before
    with pytest.raises(EngineClosedError):
        await engine.predict(Call(noise(1), "s"))


async def test_a_model_that_cannot_be_hosted_gives_its_reason() -> None:
    with pytest.raises(ModelError, match="unknown model 'mine'"):
        await Engine.open(settings_of(workers=2, model="mine"))


def test_limits_of_all_engines_are_shared_out() -> None:
    whole = settings_of(max_streams=5, max_waiting=9, max_state_bytes=100, max_lesson_bytes=50)
    part = share(whole, 2)
    assert (part.max_streams, part.max_waiting, part.max_state_bytes, part.max_lesson_bytes) == (3, 5, 50, 25)
    assert part.max_memory_bytes == whole.max_memory_bytes // 2
