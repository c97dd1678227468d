"""The C library's allocator, told to keep what forwards free and take again at once."""

from __future__ import annotations

import ctypes
import os

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Numbers of the parameters in glibc's ``malloc.h``."""

KEPT_BYTES = 2**27
"""Freed bytes at the end of a heap, of which each thread may have one, that it keeps."""

HEAP_BYTES = 2**25
"""The largest tensor that comes from a heap; larger ones are asked of the system, and given back to it."""

PADDING = 2**24
"""Bytes for which a heap grows at once; what is not used of them costs nothing."""


def keep_freed_memory() -> bool:
    """Let activations come from memory that the process has already; whether that could be arranged.

    By default glibc gives memory back whenever much of it is free, and a forward of a small network takes it all again:
    some thousand page faults, each of which costs as much as a small operation. Who has chosen something else, by
    ``MALLOC_TRIM_THRESHOLD_`` and its like or by preloading another allocator, is heeded.
    """
    chosen = any(name.startswith("MALLOC_") for name in os.environ)
    if chosen or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or "LD_PRELOAD" in os.environ:
        return False
    library = ctypes.CDLL(None)
    if not (hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt")):
        return False
    wanted = {MMAP_THRESHOLD: HEAP_BYTES, TRIM_THRESHOLD: KEPT_BYTES, TOP_PAD: PADDING}
    accepted = [library.mallopt(parameter, value) for parameter, value in wanted.items()]
    return all(accepted)
