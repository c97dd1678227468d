"""The engine that a stream belongs to: the same in every process, and for most streams with another number of engines.

Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998): every engine draws
a number for the name, and the highest wins. Going from n engines to n + 1 moves one stream in n + 1, to the new engine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from functools import lru_cache


@lru_cache(65_536)
def engine_of(stream: Hashable, engines: int) -> int:
    """Return the index of the engine, below ``engines``, that owns a stream.

    >>> [engine_of("camera-7", engines) for engines in (1, 2, 3)]
    [0, 0, 2]
    """
    name = str(stream).encode("utf-8", "surrogatepass")
    return max(range(engines), key=lambda index: hashlib.blake2b(name, digest_size=8, salt=_salt(index)).digest())


def _salt(index: int) -> bytes:
    return index.to_bytes(8, "little")
