"""Who has to go when there is no room, who never does, and what is told of it."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from adapters import AdaBN, Key, Memory, Source
from app.serving.evictions import QUIET_S, Evictions
from app.serving.streams import IN_USE_S, LONGEST_IN_USE_S, ResetScope, Streams


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Room:
    """A memory for few states of one number each, and requests that fill it."""

    def __init__(self, capacity: int) -> None:
        self.clock = Clock()
        self.streams = Streams(1_000_000, capacity, self.clock)

    def ask(self, stream: str, client: str = "", times: int = 1) -> bool:
        """Requests as the engine answers them; whether they are let in."""
        key = Key(stream, AdaBN())
        for _ in range(times):
            if not self.streams.has_room(key, client):
                return False
            steps = self.streams.memories({key})[key].steps if self.streams.holds(key) else 0
            self.streams.commit(key, Memory(torch.ones(1), steps + 1), client)
            self.streams.note(key, 1, 0.0, 0.0, 0.0)
        return True

    def names(self) -> set[str]:
        return {info.stream for info in self.streams.info().streams}

    def origin(self, stream: str) -> str:
        return self.streams.origin(Key(stream, AdaBN()))


def test_an_evicted_stream_is_told_from_a_new_one_until_it_is_held_again() -> None:
    room = Room(2)
    for name in "abc":
        assert room.origin(name) == "new"
        room.ask(name)
    assert [room.origin(name) for name in "abcd"] == ["evicted", "live", "live", "new"]
    room.ask("a")
    assert [room.origin(name) for name in "abc"] == ["live", "evicted", "live"]


@pytest.mark.parametrize(
    "scope", [ResetScope(), ResetScope("a"), ResetScope(None, "adabn")], ids=["all", "stream", "strategy"]
)
def test_stream_after_a_reset_is_new(scope: ResetScope) -> None:
    room = Room(1)
    room.ask("a")
    room.ask("b")
    assert room.origin("a") == "evicted"
    room.streams.forget(scope)
    assert room.origin("a") == "new"


def test_a_flood_of_new_streams_of_one_client_pushes_out_its_own() -> None:
    room = Room(10)
    for name in ("camera-1", "camera-2"):
        room.ask(name, "polite", times=1)
    for i in range(100):
        assert room.ask(f"flood-{i}", "flood")
    assert {"camera-1", "camera-2"} <= room.names()
    assert room.streams.evictions.count == 92


def test_a_flood_from_the_same_client_pushes_out_no_stream_in_use() -> None:
    room = Room(10)
    room.ask("camera", times=2)
    for i in range(100):
        assert room.ask(f"flood-{i}")
    assert room.origin("camera") == "live"


def test_a_stream_is_in_use_for_a_minute_or_three_of_its_pauses() -> None:
    room = Room(2)
    room.ask("often", times=2)
    room.clock.now += 600
    room.ask("seldom")
    room.clock.now += 300
    room.ask("seldom")
    room.clock.now += IN_USE_S + 1
    assert room.ask("third")
    assert room.names() == {"seldom", "third"}
    room.clock.now += 300
    assert room.ask("fourth")
    assert room.names() == {"seldom", "fourth"}
    room.clock.now += LONGEST_IN_USE_S
    assert room.ask("fifth")
    assert room.ask("sixth")
    assert "seldom" not in room.names()


def test_new_stream_is_refused_while_all_others_are_in_use() -> None:
    room = Room(3)
    for name in "abc":
        room.ask(name, name, times=2)
    assert not room.ask("d", "d")
    assert room.ask("a", "a", times=3)
    assert room.names() == {"a", "b", "c"}
    room.clock.now += IN_USE_S
    assert room.ask("d", "d")
    assert room.streams.evictions.count == 1


def test_a_client_with_many_streams_in_use_takes_none_from_one_with_few() -> None:
    room = Room(5)
    room.ask("seldom", "small")
    for i in range(4):
        room.ask(f"s{i}", "large", times=2)
    room.clock.now += 3
    assert not room.ask("s4", "large")
    assert room.ask("another", "small")
    assert "another" in room.names()


def test_the_oldest_names_are_forgotten_first() -> None:
    evictions = Evictions(max_keys=3)
    keys = [Key(name, Source()) for name in "abcde"]
    for key in keys:
        evictions.add(key, "", 1)
    assert [key in evictions for key in keys] == [False, False, True, True, True]
    assert evictions.count == 5


def test_one_line_in_the_log_counts_many(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    evictions = Evictions(clock=clock)
    with caplog.at_level(logging.WARNING, "renorm"):
        for i in range(50):
            evictions.add(Key(f"s{i}", Source()), "key 'shop'", 7)
        clock.now += QUIET_S
        evictions.add(Key("last", Source()), "key 'shop'", 7)
    first, second = (record.getMessage() for record in caplog.records)
    assert "1 evicted since the last such line, the last of stream 's0' of key 'shop'" in first
    assert "50 evicted since the last such line, the last of stream 'last'" in second


@pytest.mark.parametrize("seed", range(5))
def test_streams_in_use_stay_and_the_capacity_is_never_exceeded(seed: int) -> None:
    draw = np.random.default_rng(seed)
    room = Room(6)
    for _ in range(400):
        room.clock.now += float(draw.choice((0.0, 1.0, 30.0)))
        client = "xyz"[draw.integers(3)]
        used = {str(key.stream) for key, record in room.streams._records.items() if record.is_in_use(room.clock.now)}
        room.ask(f"{client}{draw.integers(8)}", client)
        assert used <= room.names()
        assert len(room.names()) <= 6
        assert sum(map(len, room.streams._keys_of.values())) == len(room.names())
