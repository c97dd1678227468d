"""Where the states of streams are kept: rows side by side in blocks of memory that are never moved."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.memory import Key, Memory

BLOCK_BYTES = 2**21
"""About how large a block is. What is asked of the system in pieces of a row's size comes back as holes."""


class _Slot(NamedTuple):
    block: Tensor  # [rows, size]
    place: int


class Arena(MutableMapping[Key, Memory]):
    """States by key. A missing one *is* the initial state, so deleting a key is resetting its stream.

    Assigning copies the row in; what is read is a view, which the next assignment to the same key writes over. Takes
    the exact bytes of its rows, and at most one unfinished block for every size of row.
    """

    def __init__(self) -> None:
        self.bytes = 0  # of all rows
        self._steps: dict[Key, int] = {}
        self._slots: dict[Key, _Slot] = {}
        self._free: dict[tuple[int, torch.device], list[_Slot]] = {}

    def __getitem__(self, key: Key) -> Memory:
        slot = self._slots[key]
        return Memory(slot.block[slot.place], self._steps[key])

    def __contains__(self, key: object) -> bool:
        return key in self._slots

    def __setitem__(self, key: Key, memory: Memory) -> None:
        row, slot = memory.row, self._slots.get(key)
        if slot is None or slot.block.shape[1] != len(row):
            # A row grows when a layer is met that the network had not called before.
            self.pop(key, None)
            slot = self._take(row)
            self._slots[key] = slot
            self.bytes += row.nbytes
        slot.block[slot.place] = row
        self._steps[key] = memory.steps

    def __delitem__(self, key: Key) -> None:
        slot = self._slots.pop(key)
        del self._steps[key]
        self.bytes -= slot.block[slot.place].nbytes
        free = self._free.setdefault(_kind(slot.block), [])
        free.append(slot)
        if sum(other.block is slot.block for other in free) == len(slot.block):
            free[:] = [other for other in free if other.block is not slot.block]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._slots)

    def __len__(self) -> int:
        """How many states are kept."""
        return len(self._slots)

    def _take(self, row: Tensor) -> _Slot:
        free = self._free.setdefault((len(row), row.device), [])
        if not free:
            block = row.new_empty(max(1, BLOCK_BYTES // max(1, row.nbytes)) if len(row) else 1, len(row))
            free += [_Slot(block, place) for place in reversed(range(len(block)))]
        return free.pop()


def _kind(block: Tensor) -> tuple[int, torch.device]:
    return block.shape[1], block.device
