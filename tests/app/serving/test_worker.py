"""The model thread: jobs in order, and nobody left waiting when it ends."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial

import pytest

from app.errors import EngineClosedError
from app.serving.worker import Worker

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def fail() -> None:
    raise ValueError("no")


def end() -> None:
    raise SystemExit(3)


async def test_jobs_run_in_order_on_one_thread() -> None:
    worker = Worker("w")
    order: list[int] = []

    def job(i: int) -> str:
        order.append(i)
        return threading.current_thread().name

    assert await asyncio.gather(*(worker.run(partial(job, i)) for i in range(20))) == ["w"] * 20
    assert order == list(range(20))
    assert await worker.close()


async def test_an_exception_is_the_jobs_own() -> None:
    worker = Worker("w")
    with pytest.raises(ValueError, match="no"):
        await worker.run(fail)
    assert await worker.run(lambda: 1) == 1
    assert worker.alive
    await worker.close()


async def test_a_thread_that_ends_fails_its_job_those_that_wait_and_those_that_come() -> None:
    worker, gate = Worker("w"), threading.Event()

    def ending() -> None:
        gate.wait(10)
        raise SystemExit(3)

    running = asyncio.ensure_future(worker.run(ending))
    waiting = [asyncio.ensure_future(worker.run(lambda: 1)) for _ in range(3)]
    await asyncio.sleep(0.01)
    gate.set()
    found = await asyncio.wait_for(asyncio.gather(running, *waiting, return_exceptions=True), 5)
    assert [type(error) for error in found] == [EngineClosedError] * 4
    assert not worker.alive
    with pytest.raises(EngineClosedError, match="the model thread has ended"):
        await worker.run(lambda: 1)


async def test_cancelled_caller_does_not_stop_the_job() -> None:
    worker, done = Worker("w"), threading.Event()

    def slow() -> None:
        time.sleep(0.05)
        done.set()

    task = asyncio.ensure_future(worker.run(slow))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await worker.run(done.is_set)
    await worker.close()


async def test_worker_reports_the_seconds_of_the_running_job() -> None:
    worker, gate = Worker("w"), threading.Event()
    assert worker.busy_s == 0
    task = asyncio.ensure_future(worker.run(lambda: gate.wait(10)))
    await asyncio.sleep(0.05)
    assert 0.03 < worker.busy_s < 10
    gate.set()
    await task
    assert worker.busy_s == 0
    await worker.close()


async def test_closing_finishes_what_was_asked_for_but_waits_no_longer_than_told() -> None:
    worker, gate = Worker("w"), threading.Event()
    task = asyncio.ensure_future(worker.run(lambda: gate.wait(10)))
    await asyncio.sleep(0.01)
    assert not await worker.close(0.05)
    gate.set()
    assert await task
    assert await worker.close(5)
    assert not worker.alive


def test_a_loop_that_is_gone_harms_nobody() -> None:
    worker, gate = Worker("w"), threading.Event()

    async def leave() -> None:
        task = asyncio.ensure_future(worker.run(lambda: gate.wait(10)))
        await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(leave())
    gate.set()
    assert asyncio.run(worker.run(lambda: 2)) == 2
    assert asyncio.run(worker.close(5))


async def test_closing_waits_for_the_thread_itself() -> None:
    """Not only for its work: what a thread leaves to C++ libraries when it ends must not meet the program's end."""
    worker = Worker("test")
    leaving = threading.Event()
    fail_waiting = worker._fail_waiting

    def slowly() -> None:
        fail_waiting()
        leaving.wait(0.2)

    worker._fail_waiting = slowly  # type: ignore[method-assign]
    assert await worker.close()
    assert not worker._thread.is_alive()
