"""Storage for the states of streams: rows side by side in blocks of memory that are never moved."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.state.memory import NO_SUMS, Memory, State, StateKey, bytes_of

BLOCK_BYTES = 2**25
"""About how large a block is: so large that allocators ask the system for it alone, which takes no memory before it is
written to. What is asked for in pieces of a row's size lies between other things, and comes back as holes."""
MAX_ROWS = 1024


@dataclass(eq=False)
class _Block:
    rows: Tensor  # [rows, size]
    free: list[int]


class _Slot(NamedTuple):
    block: _Block
    place: int

    @property
    def row(self) -> Tensor:
        return self.block.rows[self.place]


class Arena(MutableMapping[StateKey, Memory]):
    """States by key. A missing one *is* the initial state, so deleting a key is resetting its stream.

    >>> arena = Arena()
    >>> arena[Key("camera-7", AdaBN())] = Memory(torch.zeros(4), steps=1)
    >>> arena.bytes
    16

    Assigning copies the row in; what is read is a view, which the next assignment to the same key writes over. Sums of
    drift, and what learners and correctors remember, is kept as it is given. Takes the bytes of all that, and the
    room that is left in blocks until new streams fill it or the last of theirs has gone.
    """

    def __init__(self) -> None:
        self.bytes = 0  # of all states
        self._steps: dict[StateKey, int] = {}
        self._images: dict[StateKey, int] = {}
        self._parts: dict[StateKey, tuple[State, ...]] = {}
        self._drift_sums: dict[StateKey, Tensor] = {}
        self._slots: dict[StateKey, _Slot] = {}
        # Blocks with room, by what fits in.
        self._open: dict[tuple[int, torch.device], list[_Block]] = {}

    def __getitem__(self, key: StateKey) -> Memory:
        drift_sums = self._drift_sums.get(key, NO_SUMS)
        return Memory(self._slots[key].row, self._steps[key], self._parts.get(key, ()), drift_sums, self._images[key])

    def __contains__(self, key: object) -> bool:
        return key in self._slots

    def __setitem__(self, key: StateKey, memory: Memory) -> None:
        row, slot = memory.row, self._slots.get(key)
        if slot is None or slot.row.shape != row.shape:
            # A row grows when a layer is met that the network had not called before.
            self.pop(key, None)
            slot = self._slots[key] = self._take(row)
            self.bytes += row.nbytes
        slot.row.copy_(row)
        self._steps[key], self._images[key] = memory.steps, memory.images
        self.bytes += memory.drift_sums.nbytes - self._drift_sums.get(key, NO_SUMS).nbytes
        self._drift_sums[key] = memory.drift_sums
        self.bytes -= bytes_of(self._parts.pop(key, ()))
        if memory.parts:
            self._parts[key] = memory.parts
            self.bytes += bytes_of(memory.parts)

    def __delitem__(self, key: StateKey) -> None:
        block, place = slot = self._slots.pop(key)
        del self._steps[key], self._images[key]
        self.bytes -= self._drift_sums.pop(key, NO_SUMS).nbytes
        self.bytes -= slot.row.nbytes + bytes_of(self._parts.pop(key, ()))
        open_blocks = self._open.setdefault((block.rows.shape[1], block.rows.device), [])
        block.free.append(place)
        if len(block.free) == 1:
            open_blocks.append(block)
        if len(block.free) == len(block.rows):
            open_blocks.remove(block)

    def __iter__(self) -> Iterator[StateKey]:
        return iter(self._slots)

    def __len__(self) -> int:
        """Return the number of states."""
        return len(self._slots)

    def _take(self, row: Tensor) -> _Slot:
        open_blocks = self._open.setdefault((len(row), row.device), [])
        if not open_blocks:
            count = min(MAX_ROWS, max(1, BLOCK_BYTES // max(1, row.nbytes)))
            open_blocks.append(_Block(row.new_empty(count, len(row)), list(reversed(range(count)))))
        block = open_blocks[-1]
        slot = _Slot(block, block.free.pop())
        if not block.free:
            open_blocks.pop()
        return slot
