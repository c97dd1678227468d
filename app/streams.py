"""The memory: every stream's state, bounded in bytes and number, the least recently used leaving first."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple

from adapters import Key, Memory, name_of
from app.types import StreamInfo, StreamsInfo


class Scope(NamedTuple):
    """Which states a reset means: of one stream, of one strategy, of both, or all."""

    stream: str | None = None
    strategy: str | None = None

    def covers(self, key: Key) -> bool:
        """Whether the state of ``key`` is meant."""
        return self.stream in (None, key.stream) and self.strategy in (None, name_of(key.adapter))


@dataclass
class Held:
    """One state and what is told of it."""

    memory: Memory
    images: int
    drift: float
    entropy: float
    used: float


class Streams:
    """States by stream and adapter. A missing one *is* the initial state, so forgetting is resetting.

    Used by the event loop's thread alone.
    """

    def __init__(self, capacity_bytes: int, capacity: int) -> None:
        self.capacity_bytes, self.capacity = capacity_bytes, capacity
        self.bytes = 0
        self.evictions = 0
        self._held: OrderedDict[Key, Held] = OrderedDict()

    def memories(self, keys: set[Key]) -> Mapping[Key, Memory]:
        """The states of those of ``keys`` that have one; reading them counts as use."""
        held = [key for key in keys if key in self._held]
        for key in held:
            self._held.move_to_end(key)
        return {key: self._held[key].memory for key in held}

    def commit(self, key: Key, memory: Memory) -> None:
        """Make ``memory`` the state of ``key``, and let the least recently used go if there is no room."""
        held = self._held.get(key) or Held(memory, 0, 0.0, 0.0, 0.0)
        self.bytes += _bytes(memory) - (_bytes(held.memory) if key in self._held else 0)
        held.memory = memory
        self._held[key] = held
        self._held.move_to_end(key)
        while len(self._held) > 1 and (self.bytes > self.capacity_bytes or len(self._held) > self.capacity):
            _, gone = self._held.popitem(last=False)
            self.bytes -= _bytes(gone.memory)
            self.evictions += 1

    def note(self, key: Key, images: int, drift: float, entropy: float) -> None:
        """Record what the last committed request of ``key`` looked like."""
        held = self._held.get(key)
        if held is not None:
            held.images += images
            held.drift, held.entropy, held.used = drift, entropy, time.monotonic()

    def forget(self, scope: Scope) -> int:
        """Drop the states that ``scope`` covers; how many there were."""
        gone = [key for key in self._held if scope.covers(key)]
        for key in gone:
            self.bytes -= _bytes(self._held.pop(key).memory)
        return len(gone)

    def info(self) -> StreamsInfo:
        """All streams, the most recently used first."""
        now = time.monotonic()
        listed = [_told(key, held, now) for key, held in reversed(self._held.items())]
        return StreamsInfo(listed, self.bytes, self.capacity_bytes, self.evictions)


def _bytes(memory: Memory) -> int:
    return memory.row.numel() * memory.row.element_size()


def _told(key: Key, held: Held, now: float) -> StreamInfo:
    return StreamInfo(
        stream=str(key.stream),
        strategy=name_of(key.adapter),
        params=asdict(key.adapter),  # type: ignore[call-overload]
        steps=held.memory.steps,
        images=held.images,
        bytes=_bytes(held.memory),
        drift=held.drift,
        entropy=held.entropy,
        age_s=now - held.used,
    )
