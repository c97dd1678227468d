"""Time calls in turn, round after round, so that whatever slows the machine slows all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

Call = Callable[[], object]
Clock = Callable[[Call, int], float]
"""Takes a call and how often to make it; gives the seconds of all."""


class Case(NamedTuple):
    """Something to time."""

    name: str
    call: Call


def wall(call: Call, times: int) -> float:
    """By the clock on the wall: right where a call returns when its work is done."""
    started = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - started


def cuda(call: Call, times: int) -> float:
    """By events in the stream of the GPU, which works on after a call returns."""
    start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    start.record()
    for _ in range(times):
        call()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1000


def measure(
    cases: Sequence[Case], rounds: int, clock: Clock, minimum_s: float, tick: Callable[[str], None]
) -> dict[str, list[float]]:
    """Seconds per call of each case, one value per round: A B C, A B C, and so on.

    Each case is called twice before, untimed. A value is the mean of as many calls as take about ``least`` seconds.
    ``tick`` is told each case that is begun, the untimed ones too.
    """
    times = {}
    for case in cases:
        tick(case.name)
        case.call()
        times[case.name] = max(1, math.ceil(minimum_s / max(clock(case.call, 1), 1e-6)))
    seconds: dict[str, list[float]] = {case.name: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            tick(case.name)
            seconds[case.name].append(clock(case.call, times[case.name]) / times[case.name])
    return seconds
