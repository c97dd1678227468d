"""The number of engine processes that settings ask for."""

from __future__ import annotations

import os
import sys

from app.models.device import device_of
from app.resources.machine import usable_cores
from app.settings import Settings


def count_workers(settings: Settings) -> int:
    """Return the number of engine processes, 0 where the engine is to run in this process.

    With ``auto`` a CPU gets one for each core that this process may use, each with one thread: small networks gain
    little from a second thread, and a busy neighbour delays the engine beside it alone. Where forwards have more
    threads, there are fewer engines: threads of all of them never outnumber the cores. A GPU has none.
    """
    if settings.workers != "auto":
        return settings.workers or 0
    if not (sys.platform == "linux" and hasattr(os, "memfd_create")) or device_of(settings.device).type != "cpu":
        return 0
    threads = settings.threads if isinstance(settings.threads, int) else 1
    return max(1, usable_cores() // threads)
