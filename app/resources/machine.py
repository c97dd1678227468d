"""The cores and the memory that the scheduler and the container allow this process."""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch

CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Return the smaller of CPU affinity and control group quota (v2, then v1), rounded up; at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, affinity if quota is None else min(affinity, math.ceil(quota)))


def usable_bytes(device: torch.device, cgroup: Path = CGROUP) -> int:
    """Return the memory of a device in bytes: of the GPU, or of the machine within the control group's limit."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # a system that does not report it
        limit = 2**62
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # of version 2, of version 1
        try:
            limit = min(limit, int((cgroup / name).read_text()))
        except (OSError, ValueError):  # no such group, or 'max'
            continue
    return limit


def _quota(cgroup: Path) -> float | None:
    """Return the CPU quota of the group in cores, None where it is unlimited or cannot be read."""
    try:
        allowed, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            allowed, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        except OSError:
            return None
    try:
        share = int(allowed) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return share if share > 0 else None
