"""The amount of memory that the container allows this process."""

from __future__ import annotations

import os
from pathlib import Path

import torch

CGROUP = Path("/sys/fs/cgroup")


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
