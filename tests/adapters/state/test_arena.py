"""The arena is a dictionary of rows: what was kept last is what is there, and takes its bytes."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from torch import Tensor

from adapters import AdaBN, AdaptiveModel, AnyAdapter, Key, Memory, Request, RobustBN, UnMixTNS
from adapters.state import arena as module
from adapters.state.arena import Arena
from tests.nets import Tiny, Twice, images, seeded

KEYS = [Key(stream, adapter) for stream in range(4) for adapter in (AdaBN(), RobustBN())]
keys, sizes = st.sampled_from(KEYS), st.sampled_from([0, 1, 3, 8])


class AsDictionary(RuleBasedStateMachine):
    """Random assignments, also of rows of other sizes, of rows of the arena itself, and deletions.

    Blocks are of few rows, so that they fill up and are given back all the time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.arena, self.expected = Arena(), dict[Key, tuple[list[float], int]]()
        self.written, self.usual = 0, module.BLOCK_BYTES
        module.BLOCK_BYTES = 24

    def teardown(self) -> None:
        module.BLOCK_BYTES = self.usual

    @rule(key=keys, size=sizes)
    def keep(self, key: Key, size: int) -> None:
        self.written += 1
        row = torch.full((size,), float(self.written))
        self.arena[key] = Memory(row, self.written)
        row.fill_(-1.0)  # what is kept is a copy
        self.expected[key] = ([float(self.written)] * size, self.written)

    @rule(key=keys, source=keys)
    def keep_what_another_has(self, key: Key, source: Key) -> None:
        if source in self.arena:
            self.arena[key] = self.arena[source]
            self.expected[key] = self.expected[source]

    @rule(key=keys)
    def forget(self, key: Key) -> None:
        assert (key in self.arena) is (key in self.expected)
        self.arena.pop(key, None)
        self.expected.pop(key, None)

    @rule()
    def forget_all(self) -> None:
        self.arena.clear()
        self.expected.clear()

    @invariant()
    def holds_what_was_kept_last(self) -> None:
        assert len(self.arena) == len(self.expected)
        assert set(self.arena) == set(self.expected)
        for key, memory in self.arena.items():
            assert (memory.row.tolist(), memory.steps) == self.expected[key]

    @invariant()
    def takes_the_bytes_of_its_rows(self) -> None:
        assert self.arena.bytes == sum(4 * len(row) for row, _ in self.expected.values())


TestArena = AsDictionary.TestCase
TestArena.settings = settings(max_examples=60, stateful_step_count=30, deadline=None, derandomize=True)


def _blocks(arena: Arena) -> dict[int, int]:
    """The bytes of each block that rows lie in."""
    storages = [memory.row.untyped_storage() for memory in arena.values()]
    return {storage.data_ptr(): storage.nbytes() for storage in storages}


@pytest.mark.parametrize("streams", [1, 10, 1000])
def test_an_arena_takes_little_more_than_its_rows(streams: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most one unfinished block; 212 KB is a stream of AdaBN on ResNet-50."""
    monkeypatch.setattr(module, "BLOCK_BYTES", 2**21)
    arena, row = Arena(), torch.zeros(53_120)
    for stream in range(streams):
        arena[Key(stream, AdaBN())] = Memory(row, 1)
    assert arena.bytes == streams * row.nbytes
    assert sum(_blocks(arena).values()) <= arena.bytes + module.BLOCK_BYTES
    if streams == 1000:
        assert sum(_blocks(arena).values()) <= 1.05 * arena.bytes


def test_a_stream_that_goes_on_stays_where_it_is_and_a_new_one_takes_a_free_place() -> None:
    arena, row = Arena(), torch.zeros(1000)
    for stream in range(100):
        arena[Key(stream, AdaBN())] = Memory(row, 1)
    before = {key: memory.row.data_ptr() for key, memory in arena.items()}
    for key in arena:
        arena[key] = Memory(row + 1, 2)
    assert {key: memory.row.data_ptr() for key, memory in arena.items()} == before
    blocks = _blocks(arena)
    for stream in range(100):  # as eviction does: one goes, one comes
        del arena[Key(stream, AdaBN())]
        arena[Key(f"new {stream}", AdaBN())] = Memory(row, 1)
    assert _blocks(arena) == blocks


def test_blocks_without_a_row_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 2**21)
    arena = Arena()
    watched: list[weakref.ref[Tensor]] = []
    for stream in range(40):
        arena[Key(stream, AdaBN())] = Memory(torch.zeros(100_000), 1)
        base = arena[Key(stream, AdaBN())].row._base
        assert base is not None
        watched.append(weakref.ref(base))
    del base
    assert len({id(ref()) for ref in watched}) == 8  # five rows of 400 KB in 2 MiB
    for stream in range(40):
        del arena[Key(stream, AdaBN())]
    gc.collect()
    assert [ref() for ref in watched] == [None] * 40
    assert arena.bytes == 0


@pytest.mark.parametrize("adapter", [AdaBN(), AdaBN(cumulative=True), UnMixTNS(components=3)], ids=repr)
def test_a_row_that_grows_by_a_site_is_kept_and_counted(adapter: AnyAdapter) -> None:
    model = AdaptiveModel(seeded(Twice), adapter)
    before = model.state_bytes()
    model.predict([Request(images(2, k), k) for k in range(3)])  # meets a second call of a layer
    model.predict([Request(images(2, k), k) for k in range(3)])
    assert model.state_bytes() > before
    assert model._memories.bytes == 3 * model.state_bytes()


def test_rows_that_were_read_may_be_kept_again_after_others_were_forgotten() -> None:
    """Of a model that restores its own export, and of one that is reset between two requests."""
    model = AdaptiveModel(seeded(Tiny))
    model.predict([Request(images(2, k), k) for k in range(3)])
    state = model.state_dict()
    expected = [model(images(1, 9), stream=k, update=False) for k in range(3)]
    model.reset(1)
    model.predict([Request(images(2, 7), "new")])
    model.load_state_dict(state)
    assert all(torch.equal(model(images(1, 9), stream=k, update=False), expected[k]) for k in range(3))
    assert model._memories.bytes == 3 * model.state_bytes()
