"""What a server adds to a call: one client over HTTP, and the same work in this process, in turn.

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
        pixels = decode(image, self._how, self._limits, "images[0]")
        # Copied, as the server does, because decoded pixels are read-only.
        self._model(torch.from_numpy(np.array(pixels)[np.newaxis]))


class Comparison(NamedTuple):
    """What to compare: ``blocks`` times ``calls`` requests over HTTP, then as many in the process."""

    host: str
    port: int
    strategy: str
    threads: int
    compiled: bool
    blocks: int
    calls: int


def addition(what: Comparison) -> Addition:
    """Measure it.

    Raises:
        ValueError: the server's answer is not plausible.
    """
    torch.set_num_threads(what.threads)
    local, images = Local(what.strategy, compiled=what.compiled), PLAIN.of(0)
    found = Addition([], [])
    # The first block warms both and is dropped.
    for block in range(what.blocks + 1):
        over, without = uvloop.run(_over_http(what, images)), _in_process(what, local, images)
        if block:
            found.http.append(median(over))
            found.call.append(median(without))
    return found


async def _over_http(what: Comparison, images: Sequence[bytes]) -> list[float]:
    dialect, times = Dialect("renorm", "raw", what.strategy), []
    requests = [dialect.request(f"http://{what.host}:{what.port}", [image], "alone") for image in images]
    with closing(Line(what.host, what.port)) as line:
        for request in islice(cycle(requests), what.calls):
            begun = time.perf_counter()
            status, body = await line.ask(request)
            times.append(1000 * (time.perf_counter() - begun))
            fault = dialect.fault(status, body, 1)
            if fault is not None:
                raise ValueError(fault)
    return times


def _in_process(what: Comparison, local: Local, images: Sequence[bytes]) -> list[float]:
    times = []
    for image in islice(cycle(images), what.calls):
        begun = time.perf_counter()
        local(image)
        times.append(1000 * (time.perf_counter() - begun))
    return times
