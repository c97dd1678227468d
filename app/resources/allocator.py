"""Tuning of the C library's allocator, so that it keeps the memory that forwards free and allocate again."""

from __future__ import annotations

import ctypes
import os

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Numbers of the parameters in glibc's ``malloc.h``."""

RETAINED_BYTES = 2**27
"""Freed bytes that are kept at the end of each heap; every thread may have one."""

HEAP_BYTES = 2**25
"""The largest tensor allocated on a heap; larger ones are mapped, and returned to the system when freed."""

GROWTH_BYTES = 2**24
"""Bytes by which a heap grows; unused ones cost nothing."""


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next forward, and return whether that took effect.

    By default glibc returns memory whenever much of it is free, and the forward of a small network allocates it again:
    some thousand page faults, each as expensive as a small operation. An explicit choice, by
    ``MALLOC_TRIM_THRESHOLD_`` and its like or by preloading another allocator, is respected.
    """
    is_chosen = any(name.startswith("MALLOC_") for name in os.environ)
    if is_chosen or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or "LD_PRELOAD" in os.environ:
        return False
    library = ctypes.CDLL(None)
    if not (hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt")):
        return False
    options = {MMAP_THRESHOLD: HEAP_BYTES, TRIM_THRESHOLD: RETAINED_BYTES, TOP_PAD: GROWTH_BYTES}
    accepted = [library.mallopt(parameter, value) for parameter, value in options.items()]
    return all(accepted)
