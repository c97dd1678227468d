"""The states of all streams, bounded in bytes and number, and the choice of the state to evict."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from adapters import Arena, Key, Memory
from app.serving.evictions import Evictions
from app.strategies import ResolvedStrategy, describe_strategy
from app.types import Origin, StreamInfo, StreamsInfo

IN_USE_S = 60.0
"""Seconds for which a stream counts as in use after its last request, at least."""
LONGEST_IN_USE_S = 3600.0
"""The same at most, however long the pauses between its requests."""


StateName = tuple[str, str, str]
"""A state as other processes name it: its stream, its strategy, and the hyperparameters as text."""


class ResetScope(NamedTuple):
    """The states that a reset drops: of one stream, of one strategy, of both, or all."""

    stream: str | None = None
    strategy: str | None = None

    def covers(self, key: Key) -> bool:
        """Return whether the state of ``key`` is in the scope."""
        return self.covers_name(str(key.stream), describe_strategy(key.strategy).name)

    def covers_name(self, stream: str, strategy: str) -> bool:
        """Return whether the state of a stream with a strategy of that name is in the scope."""
        return self.stream in (None, stream) and self.strategy in (None, strategy)


@dataclass
class StreamRecord:
    """The statistics of one state, stored separately because looking them up in the arena is slow."""

    strategy: ResolvedStrategy
    client: str = ""
    steps: int = 0
    bytes: int = 0
    images: int = 0
    drift: float = 0.0
    adaptation: float = 0.0
    entropy: float = 0.0
    used_at: float = 0.0
    pause_s: float = 0.0  # between the last two requests

    def is_in_use(self, timestamp: float) -> bool:
        """Return whether it gets requests regularly: the last one within three of its usual pauses."""
        patience = max(IN_USE_S, min(3 * self.pause_s, LONGEST_IN_USE_S))
        return self.steps > 1 and timestamp - self.used_at < patience


class Streams:
    """States by stream and strategy. A missing state *is* the initial state, so dropping it resets the stream.

    Each state belongs to the client that created it. When there is no room, a state that is not in use is evicted, see
    `StreamRecord.is_in_use`: the least recently used of the client that holds the most. So a client's new streams evict
    its own, and never, whatever their number, a stream in use or one of a client that holds fewer.

    Used by the event loop's thread alone.
    """

    def __init__(self, capacity_bytes: int, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.capacity_bytes, self.capacity = capacity_bytes, capacity
        self.evictions = Evictions(clock=clock)
        self._lost: set[StateName] = set()
        self._clock = clock
        self._arena = Arena()
        self._records: OrderedDict[Key, StreamRecord] = OrderedDict()
        # The same keys by client, each in the order of use.
        self._keys_of: dict[str, OrderedDict[Key, None]] = {}

    @property
    def bytes(self) -> int:
        """The size of all states in bytes."""
        return self._arena.bytes

    @property
    def states(self) -> Mapping[Key, Memory]:
        """All states, until the next commit."""
        return self._arena

    def holds(self, key: Key) -> bool:
        """Return whether there is a state of ``key``."""
        return key in self._records

    def origin(self, key: Key) -> Origin:
        """Return whether ``key`` has a state (live) or none (new).

        Or lost it: to a recent eviction (evicted), or with the process that had it (lost).
        """
        if key in self._records:
            return "live"
        return "evicted" if key in self.evictions else "lost" if self._lost and _name(key) in self._lost else "new"

    def note_lost(self, names: Iterable[StateName]) -> None:
        """Record the states that were lost with another process: they count as lost until they exist again."""
        self._lost.update(names)

    def has_room(self, key: Key, client: str) -> bool:
        """Return whether ``key`` has a state, or ``client`` may create one now."""
        if key in self._records or not self._records:
            return True
        mean = self.bytes / len(self._records)
        fits = len(self._records) < self.capacity and self.bytes + mean <= self.capacity_bytes
        return fits or self._victim(client) is not None

    def memories(self, keys: set[Key]) -> Mapping[Key, Memory]:
        """Return the states of those of ``keys`` that have one, valid until the next commit; this counts as use."""
        live = [key for key in keys if key in self._records]
        for key in live:
            self._touch(key)
        return {key: self._arena[key] for key in live}

    def commit(self, key: Key, memory: Memory, client: str = "") -> None:
        """Make ``memory`` the state of ``key``, and evict other states if there is no room.

        ``client`` becomes the owner of a new state. If no other state may be evicted, this one is not kept.
        """
        self._arena[key] = memory
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = StreamRecord(describe_strategy(key.strategy), client, used_at=self._clock())
            self._keys_of.setdefault(client, OrderedDict())[key] = None
            self.evictions.discard(key)
            if self._lost:
                self._lost.discard(_name(key))
        record.steps, record.bytes = memory.steps, memory.bytes
        self._touch(key)
        while len(self._records) > 1 and (self.bytes > self.capacity_bytes or len(self._records) > self.capacity):
            victim = self._victim(record.client, key)
            if victim is None:
                # States can grow while they learn: memory stays bounded then too.
                victim = key if record.steps <= 1 else next(iter(self._records))
            owner = self._drop(victim)
            self.evictions.add(victim, owner, len(self._records))

    def note(self, key: Key, images: int, drift: float, adaptation: float, entropy: float) -> None:
        """Record the figures of the last committed request of ``key``."""
        record, timestamp = self._records.get(key), self._clock()
        if record is not None:
            record.images += images
            record.drift, record.adaptation, record.entropy = drift, adaptation, entropy
            record.pause_s, record.used_at = timestamp - record.used_at, timestamp

    def forget(self, scope: ResetScope) -> int:
        """Drop the states that ``scope`` covers, and return their number."""
        keys = [key for key in self._records if scope.covers(key)]
        for key in keys:
            self._drop(key)
        self.evictions.drop(scope.covers)
        self._lost = {name for name in self._lost if not scope.covers_name(*name[:2])}
        return len(keys)

    def of(self, stream: str) -> list[tuple[Key, Memory, StreamInfo]]:
        """Return the states of one stream with their descriptions; this is no use of them."""
        timestamp, records = self._clock(), reversed(self._records.items())
        return [
            (key, self._arena[key], _stream_info(stream, record, timestamp))
            for key, record in records
            if str(key.stream) == stream
        ]

    def recent(self, limit: int) -> list[tuple[Key, Memory, str]]:
        """Return copies of the most recently used states, each with its strategy's name; this is no use of them."""
        items = islice(reversed(self._records.items()), limit)
        memories = [(key, self._arena[key], record.strategy.name) for key, record in items]
        # Only rows are written over by the next commit.
        return [(key, memory._replace(row=memory.row.clone()), name) for key, memory, name in memories]

    def info(self) -> StreamsInfo:
        """Describe all states, the most recently used first."""
        timestamp = self._clock()
        infos = [_stream_info(str(key.stream), record, timestamp) for key, record in reversed(self._records.items())]
        return StreamsInfo(infos, self.bytes, self.capacity_bytes, self.evictions.count)

    def _touch(self, key: Key) -> None:
        self._records.move_to_end(key)
        self._keys_of[self._records[key].client].move_to_end(key)

    def _drop(self, key: Key) -> str:
        client = self._records.pop(key).client
        del self._arena[key], self._keys_of[client][key]
        if not self._keys_of[client]:
            del self._keys_of[client]
        return client

    def _victim(self, client: str, spared: Key | None = None) -> Key | None:
        """Return the state to evict for a new one of ``client``, None where all candidates are in use.

        Where no other client has states, the least recently used goes though it is in use: a client harms only itself.
        """
        timestamp, own_count = self._clock(), len(self._keys_of.get(client, ()))
        # Mostly the first holder has a victim. The client's own come before those of others that hold as many.
        for holder in sorted(self._keys_of, key=lambda name: (-len(self._keys_of[name]), name != client)):
            if len(self._keys_of[holder]) < own_count:
                return None
            for key in self._keys_of[holder]:
                if key != spared and not self._records[key].is_in_use(timestamp):
                    return key
        if self._keys_of.keys() - {client}:
            return None
        return next((key for key in self._records if key != spared), None)


def state_name(stream: str, strategy: str, params: Mapping[str, Any]) -> StateName:
    """Return the name of a state."""
    return stream, strategy, repr(params)


def _name(key: Key) -> StateName:
    resolved = describe_strategy(key.strategy)
    return state_name(str(key.stream), resolved.name, resolved.params)


def _stream_info(stream: str, record: StreamRecord, timestamp: float) -> StreamInfo:
    return StreamInfo(
        stream=stream,
        strategy=record.strategy.name,
        params=record.strategy.params,
        steps=record.steps,
        images=record.images,
        bytes=record.bytes,
        drift=record.drift,
        adaptation=record.adaptation,
        entropy=record.entropy,
        age_s=timestamp - record.used_at,
    )
