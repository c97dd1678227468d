"""The memory of streams: accounting, forgetting, and who leaves when it is full."""

from __future__ import annotations

import torch

from adapters import AdaBN, Key, Memory, RobustBN, Source
from app.serving.streams import ResetScope, Streams


def memory(numbers: int, steps: int = 1) -> Memory:
    return Memory(torch.ones(numbers), steps)


def key(stream: str) -> Key:
    return Key(stream, AdaBN())


def names(streams: Streams) -> list[str]:
    return [info.stream for info in streams.info().streams]


def test_a_state_is_found_again_and_a_missing_one_is_absent() -> None:
    streams = Streams(1000, 10)
    held = memory(4)
    streams.commit(key("a"), held)
    found = streams.memories({key("a"), key("b")})
    assert list(found) == [key("a")]
    assert found[key("a")].steps == held.steps
    assert torch.equal(found[key("a")].row, held.row)


def test_strategies_and_hyperparameters_have_states_of_their_own() -> None:
    streams = Streams(1000, 10)
    for adapter in (AdaBN(), AdaBN(momentum=0.2), RobustBN()):
        streams.commit(Key("a", adapter), memory(2))
    assert len(streams.info().streams) == 3
    assert streams.memories({Key("a", AdaBN(momentum=0.3))}) == {}


def test_bytes_follow_commits_replacements_and_forgetting() -> None:
    streams = Streams(1000, 10)
    streams.commit(key("a"), memory(4))
    streams.commit(key("b"), memory(6))
    streams.commit(key("a"), memory(5, steps=2))
    assert streams.bytes == 44
    assert [(info.bytes, info.steps) for info in streams.info().streams] == [(20, 2), (24, 1)]
    assert streams.forget(ResetScope("a")) == 1
    assert streams.bytes == 24


def test_the_least_recently_used_leaves_when_bytes_run_out() -> None:
    streams = Streams(100, 10)
    for name in "abc":
        streams.commit(key(name), memory(8))
    streams.memories({key("a")})
    streams.commit(key("d"), memory(8))
    assert names(streams) == ["d", "a", "c"]
    assert streams.info().evictions == 1
    assert streams.bytes == 96


def test_states_without_numbers_are_bounded_too() -> None:
    streams = Streams(100, 3)
    for name in "abcde":
        streams.commit(Key(name, Source()), memory(0))
    assert names(streams) == ["e", "d", "c"]
    assert streams.info().evictions == 2


def test_one_state_larger_than_the_memory_is_kept_alone() -> None:
    streams = Streams(100, 10)
    streams.commit(key("a"), memory(5))
    streams.commit(key("b"), memory(50))
    assert names(streams) == ["b"]


def test_a_scope_covers_stream_strategy_both_or_all() -> None:
    keys = [Key(stream, adapter) for stream in "ab" for adapter in (AdaBN(), AdaBN(momentum=0.5), RobustBN())]
    covered = {scope: sum(scope.covers(key) for key in keys) for scope in SCOPES}
    assert covered == dict(zip(SCOPES, (6, 3, 4, 2, 0), strict=True))


SCOPES = (ResetScope(), ResetScope("a"), ResetScope(None, "adabn"), ResetScope("a", "adabn"), ResetScope("c"))


def test_notes_are_told_and_go_with_the_state() -> None:
    streams = Streams(1000, 10)
    streams.note(key("a"), 3, 0.5, 0.4, 1.0)
    assert streams.info().streams == []
    streams.commit(key("a"), memory(1))
    streams.note(key("a"), 3, 0.5, 0.4, 1.0)
    streams.note(key("a"), 4, 0.7, 0.6, 0.9)
    info = streams.info().streams[0]
    assert (info.images, info.drift, info.adaptation, info.entropy) == (7, 0.7, 0.6, 0.9)
    assert 0 <= info.age_s < 5
    streams.forget(ResetScope())
    streams.commit(key("a"), memory(1))
    assert streams.info().streams[0].images == 0


def test_a_row_that_is_part_of_a_larger_tensor_does_not_keep_all_of_it() -> None:
    streams = Streams(1000, 10)
    together = torch.arange(40.0).view(10, 4)
    streams.commit(key("a"), Memory(together[3], 1))
    (held,) = streams.memories({key("a")}).values()
    assert torch.equal(held.row, together[3])
    together.fill_(0.0)
    assert held.row.tolist() == [12.0, 13.0, 14.0, 15.0]
    assert streams.bytes == 16
