"""The worker of an engine process: it runs jobs on the event loop's own thread, which has little else to do."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

log = logging.getLogger("renorm")

TURNS_BEFORE, TURNS_AFTER = 2, 4
"""Turns of the loop before a job, in which answers leave, and after it, in which requests that arrived meanwhile are
read and take their places: the next forward is chosen from all of them."""


class InlineWorker:
    """Runs jobs in order, without another thread.

    Handing over to one, and sharing the interpreter's lock with it, costs more than writing the answers here.

    Like `app.serving.worker.Worker`, but a job that hangs holds up the whole process: the front sees that it is silent.
    """

    def __init__(self) -> None:
        self._job_started: float | None = None

    @property
    def alive(self) -> bool:
        """True: it ends with its process."""
        return True

    @property
    def busy_s(self) -> float:
        """Seconds that the running job has taken so far, 0 where none runs."""
        started = self._job_started
        return 0.0 if started is None else time.monotonic() - started

    async def run(self, work: Callable[[], T]) -> T:
        """Run a job, and return its result."""
        await _pass_turns(TURNS_BEFORE)
        self._job_started = time.monotonic()
        try:
            return work()
        except SystemExit as exiting:  # a model's own code: the process ends as that asks, and another takes its place
            log.critical("the model ends the engine", exc_info=True)
            os._exit(exiting.code if isinstance(exiting.code, int) else 1)
        finally:
            self._job_started = None
            await _pass_turns(TURNS_AFTER)

    async def close(self, patience_s: float | None = None) -> bool:
        """Do nothing: no job runs while this one does."""
        del patience_s
        return True


async def _pass_turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
