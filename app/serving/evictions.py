"""Which states had to go for want of room: remembered for a while, counted, and told in the log."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

from adapters import Key

log = logging.getLogger("renorm")

REMEMBERED = 10_000
"""Names of evicted states that are known at most; of an earlier one "new" is all that can be said."""
QUIET_S = 60.0
"""Seconds between two lines in the log."""


class Evictions:
    """The names of evicted states, the last ones, until they are held again or forgotten on purpose."""

    def __init__(self, most: int = REMEMBERED, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        self._most, self._clock = most, clock
        self._names: OrderedDict[Key, None] = OrderedDict()
        self._told, self._told_at = 0, -QUIET_S

    def __contains__(self, key: Key) -> bool:
        return key in self._names

    def add(self, key: Key, client: str, held: int) -> None:
        """The state of ``key``, a stream of ``client``, had to go; ``held`` are left."""
        self.count += 1
        self._names[key] = None
        self._names.move_to_end(key)
        if len(self._names) > self._most:
            self._names.popitem(last=False)
        now = self._clock()
        if now - self._told_at >= QUIET_S:
            log.warning(
                "no room for more states than %d: %d evicted since the last such line, the last of stream %r of %s; "
                "RENORM_MAX_STREAMS and RENORM_MAX_STATE_BYTES are the limits",
                held,
                self.count - self._told,
                key.stream,
                client or "an unnamed client",
            )
            self._told, self._told_at = self.count, now

    def drop(self, covers: Callable[[Key], bool]) -> None:
        """Who is forgotten on purpose is new."""
        for key in [key for key in self._names if covers(key)]:
            del self._names[key]

    def discard(self, key: Key) -> None:
        """There is a state of ``key`` again."""
        self._names.pop(key, None)
