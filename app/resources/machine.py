"""How much memory this process may use: what the container allows, not what the machine has."""

from __future__ import annotations

import os
from pathlib import Path

import torch

CGROUP = Path("/sys/fs/cgroup")


def usable_bytes(device: torch.device, cgroup: Path = CGROUP) -> int:
    """Memory of the device that a network runs on: of a GPU, or the machine's as far as its control group allows."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # a system that does not tell
        there = 2**62
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # of version 2, of version 1
        try:
            there = min(there, int((cgroup / name).read_text()))
        except (OSError, ValueError):  # no such group, or 'max'
            continue
    return there
