"""A pool of decoder processes for images of unknown cost, killed when they take too long."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from app.errors import EngineClosedError, ImageError, unavailable_error
from app.images import ImageLimits, decode_bytes
from app.models.hosted import Preprocessing
from app.serving.budget import NO_FLOW, Budget
from app.serving.decoding.process import SERVE, DecoderEndedError, DecoderProcess, too_expensive, was_ended_by_timer
from app.serving.shares import Flow

log = logging.getLogger("renorm")

CLOCK_FACTOR = 4
"""The allowed wall-clock time as a multiple of the allowed CPU time, for a machine that is busy."""

START_S = 60.0
"""Seconds that a process has to start."""

_PIXEL = bytes.fromhex("424d1e000000000000001a0000000c0000000100010001001800ffffff00")
"""A BMP of one pixel."""


class DecoderPool:
    """At most one process per core, started when first needed and again after one has ended."""

    def __init__(
        self,
        preprocessing: Preprocessing,
        limits: ImageLimits,
        seconds: float,
        program: str = "",
        memory: int = 512_000_000,
    ) -> None:
        self.count = os.cpu_count() or 1
        self.is_broken = False
        self._preprocessing, self._limits = preprocessing, limits
        self._seconds, self._program = seconds, program or SERVE
        self._threads = ThreadPoolExecutor(self.count, "renorm-decoder")
        # Bytes that images in all processes may take by their headers, unless a single image takes more.
        self.memory = Budget(memory)
        self._turns = Budget(self.count)
        self._lock, self._idle, self._closed = threading.Lock(), list[DecoderProcess](), False
        self._jobs: set[_DecodeJob] = set()

    async def decode(self, file: bytes, flow: Flow = NO_FLOW) -> NDArray[np.uint8]:
        """Decode one image. Streams take turns. Cancelling the call kills the process that works on it.

        Raises:
            ImageError, TooLargeError: as `app.images.decode` does.
            TooExpensiveError: it took more time or memory than an image may.
            EngineClosedError: the pool is closed, or no process can be started.
        """
        size, job = decode_bytes(file, self._limits), _DecodeJob()
        async with self._turns.lent_to(flow, 1), self.memory.lent_to(flow, size):
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, job, file)
            except (RuntimeError, asyncio.CancelledError) as error:
                job.cancel()
                if self._closed:
                    raise unavailable_error() from error
                raise

    async def check(self) -> bool:
        """Return whether images can be decoded; if the last process failed to start, try to start one."""
        if self.is_broken:
            try:
                await self.decode(_PIXEL)
            except (ImageError, EngineClosedError):
                return False
        return not self.is_broken

    def close(self) -> None:
        """Kill every process, including busy ones."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        for process in idle:
            process.kill()
            process.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run(self, job: _DecodeJob, file: bytes) -> NDArray[np.uint8]:
        with self._process(job) as process:
            try:
                # Starting a process does not count against the image: a short limit would be over before it decodes.
                with _alarm(START_S, process):
                    process.wait_until_ready()
                with _alarm(self._seconds * CLOCK_FACTOR, process):
                    pixels = process.decode(file, self._preprocessing, self._seconds)
            except DecoderEndedError as error:
                if process.is_killed and process.is_ready and not job.is_cancelled:
                    raise too_expensive(f"takes longer to decode than {self._seconds * CLOCK_FACTOR:g} s") from error
                raise self._refusal(error, job, is_ready=process.is_ready) from error
            except Exception:
                self.is_broken = False
                raise
        self.is_broken = False
        return pixels

    def _refusal(self, error: DecoderEndedError, job: _DecodeJob, *, is_ready: bool) -> Exception:
        if job.is_cancelled:
            return unavailable_error("the request was cancelled")
        if not is_ready or error.status > 0:
            self.is_broken = True
            log.error("a decoder process failed to start: it exited with status %d", error.status)
            return unavailable_error("images of this kind cannot be decoded at the moment")
        if was_ended_by_timer(error.status):
            return too_expensive(f"takes more than {self._seconds:g} s of CPU time to decode")
        log.warning("a decoder process was killed by signal %d", -error.status)
        return ImageError("the decoder crashed on the image", hint="save the image again")

    @contextmanager
    def _process(self, job: _DecodeJob) -> Iterator[DecoderProcess]:
        """Lend a process to one job, and reuse it for the next if it is still alive."""
        with self._lock:
            if self._closed:
                raise unavailable_error()
            self._jobs.add(job)
            process = self._idle.pop() if self._idle else None
        try:
            process = process or DecoderProcess(self._limits, self._program)
        except OSError as error:
            self.is_broken = True
            log.error("a decoder process failed to start: %s", error)
            raise unavailable_error("images of this kind cannot be decoded at the moment") from error
        try:
            job.attach(process)
            yield process
        finally:
            with self._lock:
                self._jobs.discard(job)
                job.detach()
                is_reusable = not (self._closed or process.is_killed or not process.is_alive)
                if is_reusable:
                    self._idle.append(process)
            if not is_reusable:
                process.kill()
                process.close()


class _DecodeJob:
    """The link between a request and the process that works for it."""

    def __init__(self) -> None:
        self.is_cancelled = False
        self._lock = threading.Lock()
        self._process: DecoderProcess | None = None

    def attach(self, process: DecoderProcess) -> None:
        with self._lock:
            self._process = process
            if self.is_cancelled:
                process.kill()

    def detach(self) -> None:
        with self._lock:
            self._process = None

    def cancel(self) -> None:
        with self._lock:
            self.is_cancelled = True
            if self._process is not None:
                self._process.kill()


@contextmanager
def _alarm(seconds: float, process: DecoderProcess) -> Iterator[None]:
    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
