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
    little from a second thread, and a busy neighbour delays the engine beside it alone. A GPU has one engine.
    """
    if settings.workers != "auto":
        return settings.workers or 0
    if not (sys.platform == "linux" and hasattr(os, "memfd_create")) or device_of(settings.device).type != "cpu":
        return 0
    return usable_cores()
