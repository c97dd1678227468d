"""How many threads a forward takes: all that it may while the machine is its own, one while others need the cores."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

LOOK_S = 0.25
"""Seconds between two looks at the machine."""

CROWDED, FREE = 0.6, 0.5
"""Shares of all cores that other programs take: above the one a forward takes one thread, below the other all again.
Clients on the same machine take some, which is no reason to slow down."""


class CpuTimes(NamedTuple):
    """Seconds of CPU that were taken so far."""

    everyone: float
    this_process: float


def read_times() -> CpuTimes | None:
    """What the kernel has counted, None where it does not tell."""
    try:
        line = Path("/proc/stat").read_text().partition("\n")[0].split()
    except OSError:
        return None
    user, nice, system, _, _, irq, soft, steal = (int(ticks) for ticks in line[1:9])
    ticks = os.sysconf("SC_CLK_TCK")
    own = os.times()
    return CpuTimes((user + nice + system + irq + soft + steal) / ticks, own.user + own.system)


class Governor:
    """Chooses the number of threads of the thread that calls it, by how much of the machine other programs take.

    The threads of a parallel loop wait for each other. With a core fewer than threads, each loop lasts until the
    scheduler lets the last of them run, and the others burn their time waiting: beside two busy programs a forward
    takes ten times as long with two threads as with one.
    """

    def __init__(
        self,
        most: int,
        apply: Callable[[int], None],
        read: Callable[[], CpuTimes | None] = read_times,
        clock: Callable[[], float] = time.monotonic,
        cores: int | None = None,
    ) -> None:
        self._most, self._apply, self._read, self._clock = most, apply, read, clock
        self._cores = cores or os.cpu_count() or 1
        self.threads = most
        self._looked, self._times = clock(), read()
        apply(most)

    def adjust(self) -> None:
        """Look at the machine, if the last look was a while ago; to be called before each forward."""
        now = self._clock()
        if self._most == 1 or now - self._looked < LOOK_S:
            return
        before, after, passed = self._times, self._read(), now - self._looked
        self._looked, self._times = now, after
        if before is None or after is None:
            return
        others = (after.everyone - before.everyone) - (after.this_process - before.this_process)
        share = others / passed / self._cores
        wanted = 1 if share > CROWDED else self._most if share < FREE else self.threads
        if wanted != self.threads:
            self.threads = wanted
            self._apply(wanted)
