"""The time that a server adds to a call: one client over HTTP, and the same work in this process, in turn.

Called in a process of its own, because it is the only part of the benchmark that needs torch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from itertools import cycle, islice
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
import uvloop

from adapters import AdaptiveModel
from app.images import ImageLimits, decode
from app.models import load
from app.models.pixels import Pixels
from app.settings import Settings
from benchmarks.load.client import Line
from benchmarks.load.payloads import PLAIN, Dialect
from benchmarks.load.results import Addition


class Local:
    """The call without a server: decode, and `AdaptiveModel.predict`."""

    def __init__(self, strategy: str, *, compiled: bool) -> None:
        settings = Settings()
        hosted = load(settings)
        self._how = hosted.preprocessing
        self._limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        options: dict[str, Any] = {"compile": True} if compiled else {}
        self._model = AdaptiveModel(hosted.network, strategy, prepare=Pixels(self._how), **options)

    def __call__(self, image: bytes) -> None:
        """One request of one image."""
        pixels = decode(image, self._how, self._limits)
        # Copied, as the server does, because decoded pixels are read-only.
        self._model(torch.from_numpy(np.array(pixels)[np.newaxis]))


class HttpOverhead(NamedTuple):
    """A comparison: ``blocks`` times ``calls`` requests over HTTP, then as many in the process."""

    host: str
    port: int
    strategy: str
    threads: int
    compiled: bool
    blocks: int
    calls: int


def addition(comparison: HttpOverhead) -> Addition:
    """Measure the time that the server adds.

    Raises:
        ValueError: the server's answer is not plausible.
    """
    torch.set_num_threads(comparison.threads)
    local, images = Local(comparison.strategy, compiled=comparison.compiled), PLAIN.of(0)
    result = Addition([], [])
    # The first block warms both and is dropped.
    for block in range(comparison.blocks + 1):
        over, without = uvloop.run(_over_http(comparison, images)), _in_process(comparison, local, images)
        if block:
            result.http.append(median(over))
            result.call.append(median(without))
    return result


async def _over_http(comparison: HttpOverhead, images: Sequence[bytes]) -> list[float]:
    dialect, times = Dialect("renorm", "raw", comparison.strategy), []
    requests = [dialect.request(f"http://{comparison.host}:{comparison.port}", [image], "alone") for image in images]
    with closing(Line(comparison.host, comparison.port)) as line:
        for request in islice(cycle(requests), comparison.calls):
            start = time.perf_counter()
            status, body = await line.ask(request)
            times.append(1000 * (time.perf_counter() - start))
            fault = dialect.fault(status, body, 1)
            if fault is not None:
                raise ValueError(fault)
    return times


def _in_process(comparison: HttpOverhead, local: Local, images: Sequence[bytes]) -> list[float]:
    times = []
    for image in islice(cycle(images), comparison.calls):
        start = time.perf_counter()
        local(image)
        times.append(1000 * (time.perf_counter() - start))
    return times
