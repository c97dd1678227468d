"""The model thread: it runs one job at a time; jobs fail at once when the thread has ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

from app.errors import EngineClosedError

T = TypeVar("T")

log = logging.getLogger("renorm")


class _Job(NamedTuple):
    work: Callable[[], Any]
    answer: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class ModelWorker(Protocol):
    """Runs the jobs of a model one at a time: see `Worker`."""

    @property
    def alive(self) -> bool:
        """True while it runs jobs."""

    @property
    def busy_s(self) -> float:
        """Seconds that the running job has taken so far, 0 where none runs."""

    async def run(self, work: Callable[[], T]) -> T:
        """Run a job and wait for its result."""

    async def close(self, patience_s: float | None = None) -> bool:
        """Finish all jobs, and return whether it ended."""


class Worker:
    """A thread that runs jobs in order and delivers results on the event loop of the caller.

    An `Exception` fails its job only. Anything else, such as ``SystemExit``, ends the thread: the running job, all
    waiting jobs and every later job fail at once. A pool of `concurrent.futures` would go on as if nothing had
    happened, and would keep the process alive for a job that never ends.
    """

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._job_started: float | None = None
        # A daemon: a hung forward must not keep the server from exiting.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """True while the thread runs jobs."""
        return not self._ended.is_set()

    @property
    def busy_s(self) -> float:
        """Seconds that the running job has taken so far, 0 where none runs."""
        started = self._job_started
        return 0.0 if started is None else time.monotonic() - started

    async def run(self, work: Callable[[], T]) -> T:
        """Run a job and wait for its result. A caller cancelled while waiting does not stop the job.

        Raises:
            EngineClosedError: the thread has ended, or ends before the job does.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        if self._ended.is_set():
            raise _gone_error()
        self._jobs.put(_Job(work, answer, loop))
        if self._ended.is_set():  # the thread ended between the two, and may have missed the job
            self._fail_waiting()
        return await answer

    async def close(self, patience_s: float | None = None) -> bool:
        """Finish all jobs and end the thread; return whether it ended within ``patience_s``."""
        self._jobs.put(None)
        # Wait for the thread itself, not only its jobs: the C++ runtime aborts a program that exits while a thread is
        # still being torn down by torch.
        await asyncio.to_thread(self._thread.join, patience_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        job: _Job | None = None
        try:
            while (job := self._jobs.get()) is not None:
                self._job_started = time.monotonic()
                result: Any = None
                failure: Exception | None = None
                try:
                    result = job.work()
                except Exception as error:
                    failure = error
                # Before the answer: its caller must find the thread idle.
                self._job_started = None
                _settle(job, result, failure)
        except BaseException:
            log.critical("the model thread has ended: restart the server", exc_info=True)
        finally:
            self._job_started = None
            self._ended.set()
            if job is not None:
                _settle(job, error=_gone_error())
            self._fail_waiting()

    def _fail_waiting(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is not None:
                    _settle(job, error=_gone_error())


def _settle(job: _Job, result: Any = None, error: Exception | None = None) -> None:
    def settle() -> None:
        # The caller may have left.
        if job.answer.done():
            return
        if error is None:
            job.answer.set_result(result)
        else:
            job.answer.set_exception(error)

    # The loop may have been closed meanwhile: no caller waits then.
    with contextlib.suppress(RuntimeError):
        job.loop.call_soon_threadsafe(settle)


def _gone_error() -> EngineClosedError:
    return EngineClosedError("the model thread has ended", hint="restart the server")
