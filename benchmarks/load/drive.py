"""The load generator: clients that wait for their answers, or requests that come when they are due.

`drive` is called in a process of its own, so that the Python of the clients waits for no other.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Sequence
from contextlib import closing
from itertools import cycle

import numpy as np
import uvloop

from benchmarks.load.client import Line
from benchmarks.load.job import Counting, LoadJob, Tally
from benchmarks.load.payloads import PLAIN, Dialect

PREPARED = 25  # requests per stream, sent over and over
CAMERAS = 32  # streams of an open loop
CONNECTIONS = 256  # of an open loop, at most: what is due beyond them waits, and its clock runs
GRACE_S = 20.0  # how long the last answers are waited for
RETRY_S = 0.05


def drive(job: LoadJob) -> Tally:
    """Run one job to its end."""
    gc.collect()
    # A collection in the midst of a run would be taken for the server's latency.
    gc.disable()
    try:
        return uvloop.run(_drive(job))
    finally:
        gc.enable()


def ask(host: str, port: int, dialect: Dialect, count: int) -> list[int]:
    """The classes of the first images of several kinds, asked one by one: do two servers host the same network?

    Raises:
        OSError: the server cannot be reached.
        ValueError: it answers something implausible.
    """
    return uvloop.run(_ask(host, port, dialect, count))


async def _drive(job: LoadJob) -> Tally:
    load = job.load
    streams = 1 if load.shared else CAMERAS if load.rate else load.clients
    # Before the clock starts, because encoding takes time.
    prepared = [_requests(job, camera) for camera in range(streams)]
    counting = Counting(job)
    watching = asyncio.ensure_future(counting.watch_cpu())
    loop = _open_loop if load.rate else _closed_loop
    unanswered = await loop(counting, prepared)
    for _ in range(unanswered):
        counting.failed(f"no answer within {GRACE_S:g} s of the end")
    await watching
    return counting.tally()


async def _closed_loop(counting: Counting, prepared: Sequence[Sequence[bytes]]) -> int:
    """Clients that send one request after the other; how many requests were never answered."""
    job = counting.job
    lines = [Line(job.host, job.port) for _ in range(job.load.clients)]

    async def client(i: int) -> None:
        requests = prepared[i % len(prepared)]
        # Clients of one stream begin at different images of it.
        for request in cycle([*requests[i % PREPARED :], *requests[: i % PREPARED]]):
            timestamp = time.perf_counter()
            if timestamp >= counting.end:
                return
            if not await counting.send(lines[i], request, timestamp):
                await asyncio.sleep(RETRY_S)

    return await _finished([asyncio.ensure_future(client(i)) for i in range(len(lines))], counting, lines)


async def _open_loop(counting: Counting, prepared: Sequence[Sequence[bytes]]) -> int:
    """Requests that are sent when they are due, whatever became of those before; how many were never answered."""
    job, loop = counting.job, asyncio.get_running_loop()
    lines: list[Line] = []
    idle: list[Line] = []
    gate = asyncio.Semaphore(CONNECTIONS)
    tasks: list[asyncio.Task[None]] = []

    async def send(due: float, request: bytes) -> None:
        async with gate:
            if not idle:
                idle.append(Line(job.host, job.port))
                lines.append(idle[-1])
            line = idle.pop()
            await counting.send(line, request, due)
            idle.append(line)

    def begin(i: int, due: float) -> None:
        requests = prepared[i % len(prepared)]
        tasks.append(loop.create_task(send(due, requests[i // len(prepared) % len(requests)])))

    def pace() -> None:
        # In a thread, because an event loop's timers are a millisecond coarse.
        for i, due in enumerate(_arrivals(job, counting.end)):
            time.sleep(max(0.0, due - time.perf_counter()))
            loop.call_soon_threadsafe(begin, i, due)

    await asyncio.to_thread(pace)
    return await _finished(tasks, counting, lines)


async def _finished(tasks: Sequence[asyncio.Future[None]], counting: Counting, lines: Sequence[Line]) -> int:
    """Wait for the last answers and hang up; how many did not come."""
    remaining_s = max(0.0, counting.end - time.perf_counter()) + GRACE_S
    late = (await asyncio.wait(tasks, timeout=remaining_s))[1] if tasks else set()
    for task in late:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    # uvloop waits for ever for a connection that nobody closed.
    for line in lines:
        line.close()
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return len(late)


def _arrivals(job: LoadJob, end: float) -> list[float]:
    """When requests are due, in the time of `time.perf_counter`: random, and the same for every server."""
    timestamp = time.perf_counter()
    count = int(2 * job.load.rate * (end - timestamp)) + 10
    waits = np.random.default_rng(job.seed).exponential(1 / job.load.rate, count)
    return [due for due in (timestamp + np.cumsum(waits)).tolist() if due < end]


def _requests(job: LoadJob, camera: int) -> list[bytes]:
    pictures, images = job.pictures.of(camera), job.load.images
    batches = (
        [pictures[(PREPARED * camera + i * images + k) % len(pictures)] for k in range(images)] for i in range(PREPARED)
    )
    stream = "everyone" if job.load.shared else f"camera-{camera}"
    return [job.dialect.request(f"http://{job.host}:{job.port}", batch, stream) for batch in batches]


async def _ask(host: str, port: int, dialect: Dialect, count: int) -> list[int]:
    classes: list[int] = []
    with closing(Line(host, port)) as line:
        for camera in range(4):
            for image in PLAIN.of(camera)[: count // 4]:
                status, body = await line.ask(dialect.request(f"http://{host}:{port}", [image], f"check-{camera}"))
                fault = dialect.fault(status, body, 1)
                if fault is not None:
                    raise ValueError(fault)
                classes += [guess.chosen for guess in dialect.guesses(body)]
    return classes
