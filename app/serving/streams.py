"""The memory: every stream's state, bounded in bytes and number, and who has to go when there is no room."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from adapters import Arena, Key, Memory
from app.serving.evictions import Evictions
from app.strategies import ResolvedStrategy, describe_strategy
from app.types import Origin, StreamInfo, StreamsInfo

IN_USE_S = 60.0
"""Seconds after its last request for which a stream counts as in use at least."""
LONGEST_IN_USE_S = 3600.0
"""The same at most, however long its pauses are."""


class ResetScope(NamedTuple):
    """Which states a reset means: of one stream, of one strategy, of both, or all."""

    stream: str | None = None
    strategy: str | None = None

    def covers(self, key: Key) -> bool:
        """Whether the state of ``key`` is meant."""
        return self.stream in (None, key.stream) and self.strategy in (None, describe_strategy(key.strategy).name)


@dataclass
class StreamRecord:
    """What is told of one state, kept beside it: looking a thousand up in the arena takes its time."""

    name: ResolvedStrategy
    client: str = ""
    steps: int = 0
    bytes: int = 0
    images: int = 0
    drift: float = 0.0
    adaptation: float = 0.0
    entropy: float = 0.0
    used: float = 0.0
    pause_s: float = 0.0  # between its last two requests

    def in_use(self, now: float) -> bool:
        """Whether it is asked again and again: the last time no longer ago than three of its own pauses."""
        patience = max(IN_USE_S, min(3 * self.pause_s, LONGEST_IN_USE_S))
        return self.steps > 1 and now - self.used < patience


class Streams:
    """States by stream and adapter. A missing one *is* the initial state, so forgetting is resetting.

    Each state belongs to the client that created it. When there is no room, a state that is not in use
    (`StreamRecord.in_use`) is evicted: the least recently used of the client that holds the most. So a client's new
    streams evict its own, and never, whatever their number, a stream in use or one of a client that holds fewer.

    Used by the event loop's thread alone.
    """

    def __init__(self, capacity_bytes: int, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.capacity_bytes, self.capacity = capacity_bytes, capacity
        self.evictions = Evictions(clock=clock)
        self._clock = clock
        self._arena = Arena()
        self._held: OrderedDict[Key, StreamRecord] = OrderedDict()
        # The same keys by client, each in the order of use.
        self._of: dict[str, OrderedDict[Key, None]] = {}

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

    def origin(self, key: Key) -> Origin:
        """Whether there is a state of ``key``, or was one that had to go. After very many evictions that is unknown."""
        return "live" if key in self._held else "evicted" if key in self.evictions else "new"

    def has_room(self, key: Key, client: str) -> bool:
        """Whether there is a state of ``key``, or ``client`` may begin one now."""
        if key in self._held or not self._held:
            return True
        mean = self.bytes / len(self._held)
        fits = len(self._held) < self.capacity and self.bytes + mean <= self.capacity_bytes
        return fits or self._victim(client) is not None

    def memories(self, keys: set[Key]) -> Mapping[Key, Memory]:
        """The states of those of ``keys`` that have one, until the next commit; reading them counts as use."""
        held = [key for key in keys if key in self._held]
        for key in held:
            self._touch(key)
        return {key: self._arena[key] for key in held}

    def commit(self, key: Key, memory: Memory, client: str = "") -> None:
        """Make ``memory`` the state of ``key``, and let others go if there is no room.

        ``client`` is whose the stream is if it begins here. If nobody has to give way, it is not remembered.
        """
        self._arena[key] = memory
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = StreamRecord(describe_strategy(key.strategy), client, used=self._clock())
            self._of.setdefault(client, OrderedDict())[key] = None
            self.evictions.discard(key)
        held.steps, held.bytes = memory.steps, memory.bytes
        self._touch(key)
        while len(self._held) > 1 and (self.bytes > self.capacity_bytes or len(self._held) > self.capacity):
            gone = self._victim(held.client, key)
            if gone is None:
                # States grow while they learn: then memory is bounded all the same.
                gone = key if held.steps <= 1 else next(iter(self._held))
            whose = self._drop(gone)
            self.evictions.add(gone, whose, len(self._held))

    def note(self, key: Key, images: int, drift: float, adaptation: float, entropy: float) -> None:
        """Record what the last committed request of ``key`` looked like."""
        held, now = self._held.get(key), self._clock()
        if held is not None:
            held.images += images
            held.drift, held.adaptation, held.entropy = drift, adaptation, entropy
            held.pause_s, held.used = now - held.used, now

    def forget(self, scope: ResetScope) -> int:
        """Drop the states that ``scope`` covers; how many there were."""
        gone = [key for key in self._held if scope.covers(key)]
        for key in gone:
            self._drop(key)
        self.evictions.drop(scope.covers)
        return len(gone)

    def info(self) -> StreamsInfo:
        """All streams, the most recently used first."""
        now = self._clock()
        listed = [_told(str(key.stream), held, now) for key, held in reversed(self._held.items())]
        return StreamsInfo(listed, self.bytes, self.capacity_bytes, self.evictions.count)

    def _touch(self, key: Key) -> None:
        self._held.move_to_end(key)
        self._of[self._held[key].client].move_to_end(key)

    def _drop(self, key: Key) -> str:
        client = self._held.pop(key).client
        del self._arena[key], self._of[client][key]
        if not self._of[client]:
            del self._of[client]
        return client

    def _victim(self, client: str, but: Key | None = None) -> Key | None:
        """The state that has to go for a new one of ``client``; None where all that might are in use.

        Where nobody else has any, the least recently used goes though it is in use: a client harms only itself.
        """
        now, own = self._clock(), len(self._of.get(client, ()))
        # Most often the first of them has one. Its own come before those of others that hold as many.
        for holder in sorted(self._of, key=lambda other: (-len(self._of[other]), other != client)):
            if len(self._of[holder]) < own:
                return None
            for key in self._of[holder]:
                if key != but and not self._held[key].in_use(now):
                    return key
        if self._of.keys() - {client}:
            return None
        return next((key for key in self._held if key != but), None)


def _told(stream: str, held: StreamRecord, now: float) -> StreamInfo:
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
