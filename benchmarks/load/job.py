"""One measurement of a server under load: what to do, and what was found."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from benchmarks.load.client import Line
from benchmarks.load.payloads import PLAIN, Dialect, Pictures
from benchmarks.load.servers import tree_cpu_s


class Load(NamedTuple):
    """A load: ``clients`` that wait, or ``rate`` requests a second that do not, of ``images`` each."""

    clients: int = 1
    images: int = 1
    shared: bool = False  # all send for one stream
    rate: float = 0.0  # requests a second, with random (Poisson) arrivals; 0: each client waits for its answers

    @property
    def label(self) -> str:
        """The name of the load in tables."""
        senders = f"{self.rate:g} requests/s" if self.rate else f"{self.clients} client{'s' * (self.clients > 1)}"
        return f"{senders} x {self.images} image{'s' * (self.images > 1)}{', one stream' * self.shared}"


@dataclass(frozen=True)
class LoadJob:
    """One measurement: ``load`` on a server for ``seconds``, after ``warm_s`` whose answers do not count."""

    host: str
    port: int
    pid: int  # of the server's first process
    dialect: Dialect
    load: Load
    seconds: float
    warm_s: float = 1.0
    pictures: Pictures = PLAIN
    seed: int = 0


@dataclass(frozen=True)
class Tally:
    """The result of a job: latencies in milliseconds from when a request was due; NaN where nothing was answered.

    ``cpu_ms`` is the CPU time of all the server's processes for an image. An error is anything but a plausible answer,
    and ``fault`` the first of them.
    """

    images_per_s: float
    p50: float
    p99: float
    cpu_ms: float
    requests: int
    errors: int
    fault: str = ""


class Counting:
    """Counts the answers between ``begin`` and ``end``, and all errors."""

    def __init__(self, job: LoadJob) -> None:
        self.job = job
        self.begin = time.perf_counter() + job.warm_s
        self.end = self.begin + job.seconds
        self._latencies: list[float] = []
        self._answered, self._errors, self._fault = 0, 0, ""
        self._cpu_s: list[float] = []

    async def send(self, line: Line, request: bytes, due: float) -> bool:
        """Send a request that was due at that time of `time.perf_counter`; return whether the answer was plausible."""
        images = self.job.load.images
        try:
            status, body = await line.ask(request)
        except OSError as error:
            self.failed(str(error) or type(error).__name__)
            return False
        timestamp = time.perf_counter()
        fault = self.job.dialect.fault(status, body, images)
        if fault is not None:
            self.failed(fault)
            return False
        self._answered += images * (self.begin <= timestamp <= self.end)
        if self.begin <= due < self.end:
            self._latencies.append(timestamp - due)
        return True

    def failed(self, reason: str) -> None:
        """Count an error."""
        self._errors += 1
        self._fault = self._fault or reason

    async def watch_cpu(self) -> None:
        """Read the server's CPU time at both ends."""
        for moment in (self.begin, self.end):
            await asyncio.sleep(max(0.0, moment - time.perf_counter()))
            self._cpu_s.append(tree_cpu_s(self.job.pid))

    def tally(self) -> Tally:
        """Return the result."""
        p50, p99 = np.percentile(self._latencies, [50, 99]) if self._latencies else (math.nan, math.nan)
        cpu_s = self._cpu_s[1] - self._cpu_s[0]
        return Tally(
            images_per_s=self._answered / self.job.seconds,
            p50=1000 * float(p50),
            p99=1000 * float(p99),
            cpu_ms=1000 * cpu_s / self._answered if self._answered else math.nan,
            requests=len(self._latencies),
            errors=self._errors,
            fault=self._fault,
        )
