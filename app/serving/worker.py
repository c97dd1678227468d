"""The model thread: one job at a time, and no waiting for a thread that is gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from app.errors import EngineClosedError

T = TypeVar("T")

log = logging.getLogger("renorm")


class _Job(NamedTuple):
    work: Callable[[], Any]
    answer: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class Worker:
    """A thread that runs jobs in order and answers on the event loop that asked.

    An exception belongs to its job. What is not an `Exception`, such as ``SystemExit``, ends the thread: its job and
    all that wait fail at once, and so does every later one. A pool of `concurrent.futures` would go on as if nothing
    had happened, and would keep the process alive for a job that never ends.
    """

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._gone = threading.Event()
        self._since: float | None = None
        # A daemon: a forward that does not end must not keep a server from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether jobs are still run."""
        return not self._gone.is_set()

    @property
    def busy_s(self) -> float:
        """Seconds that the running job has taken so far, 0 where none runs."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    async def run(self, work: Callable[[], T]) -> T:
        """Run a job and wait for it. Who is cancelled while waiting does not stop it.

        Raises:
            EngineClosedError: the thread is gone, or ends before the job does.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        if self._gone.is_set():
            raise _gone()
        self._jobs.put(_Job(work, answer, loop))
        if self._gone.is_set():  # it ended between the two, and may have missed the job
            self._fail_waiting()
        return await answer

    async def close(self, patience_s: float | None = None) -> bool:
        """Finish what was asked for, and end; whether that took no longer than ``patience_s``."""
        self._jobs.put(None)
        # Until the thread itself has ended, not only its work: a program that ends while a thread is still taking leave
        # of torch is aborted by the C++ runtime.
        await asyncio.to_thread(self._thread.join, patience_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        job: _Job | None = None
        try:
            while (job := self._jobs.get()) is not None:
                self._since = time.monotonic()
                result: Any = None
                failure: Exception | None = None
                try:
                    result = job.work()
                except Exception as error:
                    failure = error
                # Before the answer: who has it finds the thread at rest.
                self._since = None
                _settle(job, result, failure)
        except BaseException:
            log.critical("the model thread ends: the server has to be restarted", exc_info=True)
        finally:
            self._since = None
            self._gone.set()
            if job is not None:
                _settle(job, error=_gone())
            self._fail_waiting()

    def _fail_waiting(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is not None:
                    _settle(job, error=_gone())


def _settle(job: _Job, result: Any = None, error: Exception | None = None) -> None:
    def settle() -> None:
        # Its caller may have gone.
        if job.answer.done():
            return
        if error is None:
            job.answer.set_result(result)
        else:
            job.answer.set_exception(error)

    # The loop may have been closed meanwhile: then nobody waits.
    with contextlib.suppress(RuntimeError):
        job.loop.call_soon_threadsafe(settle)


def _gone() -> EngineClosedError:
    return EngineClosedError("the model thread is gone", hint="restart the server")
