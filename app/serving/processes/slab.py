"""Shared memory for the pixels that pass from the front to one engine process."""

from __future__ import annotations

import mmap
import os
from bisect import bisect_left, insort
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

PAGE = mmap.PAGESIZE
KEPT_BYTES = 16_000_000
"""Bytes whose pages an empty slab keeps; those above go back to the system."""

DTYPES: dict[str, torch.dtype] = {"u1": torch.uint8, "f4": torch.float32}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Extent(NamedTuple):
    """The place of a tensor in a slab; an offset of -1 where it takes none."""

    offset: int
    dtype: str  # as numpy writes it
    shape: tuple[int, ...]


class Slab:
    """A piece of memory that two processes see, of which one, the writer, divides it.

    Pages are taken from the system when they are first written, and the lowest free place is used first, so a slab
    takes as much memory as was in use at a time.
    """

    def __init__(self, capacity: int, descriptor: int | None = None) -> None:
        self.capacity = max(PAGE, -(-capacity // PAGE) * PAGE)
        self.descriptor = os.memfd_create("renorm-pixels") if descriptor is None else descriptor
        if descriptor is None:
            os.ftruncate(self.descriptor, self.capacity)
        self._memory = mmap.mmap(self.descriptor, self.capacity)
        self._free: list[tuple[int, int]] = [(0, self.capacity)]  # places by offset, none beside another
        self._taken: dict[int, int] = {}
        self._highest = 0

    @property
    def taken_bytes(self) -> int:
        """The bytes of all places in use, rounded up to pages."""
        return sum(self._taken.values())

    def put(self, images: Tensor) -> Extent | None:
        """Copy a tensor to the first free place that is large enough, None where there is none."""
        name = _NAMES.get(images.dtype)
        offset = self._take(images.nbytes) if name is not None else None
        if name is None or offset is None:
            return None
        place = Extent(offset, name, tuple(images.shape))
        self.view(place).copy_(images)
        return place

    def view(self, place: Extent) -> Tensor:
        """Return the tensor at a place; it shares the memory, so it is valid until the writer frees the place."""
        if not all(place.shape):
            return torch.empty(place.shape, dtype=DTYPES[place.dtype])
        count = int(np.prod(place.shape))
        pixels = np.frombuffer(self._memory, np.dtype(place.dtype), count, place.offset)
        return torch.from_numpy(pixels).view(place.shape)

    def give_back(self, place: Extent) -> None:
        """Free a place."""
        size = self._taken.pop(place.offset, 0)
        if not size:
            return
        index = bisect_left(self._free, (place.offset, 0))
        start, end = place.offset, place.offset + size
        if index < len(self._free) and self._free[index][0] == end:
            end += self._free.pop(index)[1]
        if index and sum(self._free[index - 1]) == start:
            start = self._free.pop(index - 1)[0]
        insort(self._free, (start, end - start))
        if not self._taken:
            self._trim()

    def clear(self) -> None:
        """Free all places: nobody reads them any more."""
        self._free, self._taken = [(0, self.capacity)], {}
        self._trim()

    def close(self) -> None:
        """Close the descriptor; the memory itself lives as long as a view of it."""
        os.close(self.descriptor)

    def _take(self, size: int) -> int | None:
        size = -(-size // PAGE) * PAGE
        for index, (offset, length) in enumerate(self._free):
            if length >= size > 0:
                if length == size:
                    del self._free[index]
                else:
                    self._free[index] = offset + size, length - size
                self._taken[offset] = size
                self._highest = max(self._highest, offset + size)
                return offset
        return None

    def _trim(self) -> None:
        kept_bytes = -(-KEPT_BYTES // PAGE) * PAGE
        if self._highest > kept_bytes and hasattr(mmap, "MADV_REMOVE"):
            self._memory.madvise(mmap.MADV_REMOVE, kept_bytes, self._highest - kept_bytes)
            self._highest = kept_bytes
