"""States evicted to make room: counted, logged, and remembered for a while."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

from adapters import Key

log = logging.getLogger("renorm")

MAX_KEYS = 10_000
"""Evicted states that are remembered at most; a state evicted earlier counts as "new"."""
QUIET_S = 60.0
"""Seconds between two log lines."""


class Evictions:
    """The keys of the last evicted states, until they have a state again or are reset."""

    def __init__(self, max_keys: int = MAX_KEYS, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        self._max_keys, self._clock = max_keys, clock
        self._keys: OrderedDict[Key, None] = OrderedDict()
        self._reported, self._reported_at = 0, -QUIET_S

    def __contains__(self, key: Key) -> bool:
        return key in self._keys

    def add(self, key: Key, client: str, remaining: int) -> None:
        """Record the eviction of the state of ``key``, created by ``client``; ``remaining`` states are left."""
        self.count += 1
        self._keys[key] = None
        self._keys.move_to_end(key)
        if len(self._keys) > self._max_keys:
            self._keys.popitem(last=False)
        timestamp = self._clock()
        if timestamp - self._reported_at >= QUIET_S:
            log.warning(
                "state memory is full with %d states: %d evicted since the last such line, the last of stream %r of "
                "%s; the limits are RENORM_MAX_STREAMS and RENORM_MAX_STATE_BYTES",
                remaining,
                self.count - self._reported,
                key.stream,
                client or "an unnamed client",
            )
            self._reported, self._reported_at = self.count, timestamp

    def drop(self, covers: Callable[[Key], bool]) -> None:
        """Forget evictions that ``covers`` selects: a stream that is reset counts as new."""
        for key in [key for key in self._keys if covers(key)]:
            del self._keys[key]

    def discard(self, key: Key) -> None:
        """Forget the eviction of ``key``, which has a state again."""
        self._keys.pop(key, None)
