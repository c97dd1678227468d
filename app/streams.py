"""The memory: every stream's state, bounded in bytes and number, the least recently used leaving first."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from adapters import Arena, Key, Memory
from app.named import Named, described
from app.types import StreamInfo, StreamsInfo


class Scope(NamedTuple):
    """Which states a reset means: of one stream, of one strategy, of both, or all."""

    stream: str | None = None
    strategy: str | None = None

    def covers(self, key: Key) -> bool:
        """Whether the state of ``key`` is meant."""
        return self.stream in (None, key.stream) and self.strategy in (None, described(key.strategy).name)


@dataclass
class Held:
    """What is told of one state, kept beside it: looking a thousand up in the arena takes its time."""

    name: Named
    steps: int = 0
    bytes: int = 0
    images: int = 0
    drift: float = 0.0
    adaptation: float = 0.0
    entropy: float = 0.0
    used: float = 0.0


class Streams:
    """States by stream and adapter. A missing one *is* the initial state, so forgetting is resetting.

    Used by the event loop's thread alone.
    """

    def __init__(self, capacity_bytes: int, capacity: int) -> None:
        self.capacity_bytes, self.capacity = capacity_bytes, capacity
        self.evictions = 0
        self._arena = Arena()
        self._held: OrderedDict[Key, Held] = OrderedDict()

    @property
    def bytes(self) -> int:
        """Of all states."""
        return self._arena.bytes

    @property
    def states(self) -> Mapping[Key, Memory]:
        """All states, until the next commit."""
        return self._arena

    def holds(self, key: Key) -> bool:
        """Whether there is a state of ``key``."""
        return key in self._held

    def memories(self, keys: set[Key]) -> Mapping[Key, Memory]:
        """The states of those of ``keys`` that have one, until the next commit; reading them counts as use."""
        held = [key for key in keys if key in self._held]
        for key in held:
            self._held.move_to_end(key)
        return {key: self._arena[key] for key in held}

    def commit(self, key: Key, memory: Memory) -> None:
        """Make ``memory`` the state of ``key``, and let the least recently used go if there is no room."""
        self._arena[key] = memory
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = Held(described(key.strategy))
        held.steps, held.bytes = memory.steps, memory.bytes
        self._held.move_to_end(key)
        while len(self._held) > 1 and (self.bytes > self.capacity_bytes or len(self._held) > self.capacity):
            gone, _ = self._held.popitem(last=False)
            del self._arena[gone]
            self.evictions += 1

    def note(self, key: Key, images: int, drift: float, adaptation: float, entropy: float) -> None:
        """Record what the last committed request of ``key`` looked like."""
        held = self._held.get(key)
        if held is not None:
            held.images += images
            held.drift, held.adaptation, held.entropy, held.used = drift, adaptation, entropy, time.monotonic()

    def forget(self, scope: Scope) -> int:
        """Drop the states that ``scope`` covers; how many there were."""
        gone = [key for key in self._held if scope.covers(key)]
        for key in gone:
            del self._held[key], self._arena[key]
        return len(gone)

    def info(self) -> StreamsInfo:
        """All streams, the most recently used first."""
        now = time.monotonic()
        listed = [_told(str(key.stream), held, now) for key, held in reversed(self._held.items())]
        return StreamsInfo(listed, self.bytes, self.capacity_bytes, self.evictions)


def _told(stream: str, held: Held, now: float) -> StreamInfo:
    return StreamInfo(
        stream=stream,
        strategy=held.name.name,
        params=held.name.params,
        steps=held.steps,
        images=held.images,
        bytes=held.bytes,
        drift=held.drift,
        adaptation=held.adaptation,
        entropy=held.entropy,
        age_s=now - held.used,
    )
