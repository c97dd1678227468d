"""Some of a request's images, for one thread to decode."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Read = Callable[[Any, str], NDArray[np.uint8]]


class CostlyError(Exception):
    """An image is not for a thread."""


class Share:
    """Some of a request's images, which one thread writes where they belong."""

    def __init__(
        self, read: Read, pixels: NDArray[np.uint8], files: Sequence[Any], places: range, begun: dict[int, float]
    ) -> None:
        self._read, self._pixels, self._files, self._places, self._begun = read, pixels, files, places, begun
        self.is_cancelled = False
        self.failure: tuple[int, Exception] | None = None
        self.costly: list[int] = []

    @property
    def left(self) -> int:
        """How many images it is still to read."""
        return 0 if self.is_cancelled or self.failure is not None else len(self._places)

    def fill(self, count: int) -> float:
        """Decode the next ``count``, until the first that fails; those that are not for a thread are noted.

        Returns:
            How many seconds of CPU it took: not those in which other threads had their turn.
        """
        thread, started = threading.get_ident(), time.thread_time()
        places, self._places = self._places[:count], self._places[count:]
        for i in places:
            if self.is_cancelled:
                break
            self._begun[thread] = time.monotonic()
            try:
                self._pixels[i] = self._read(self._files[i], f"images[{i}]")
            except CostlyError:
                self.costly.append(i)
            except Exception as error:
                self.failure = i, error
                break
        self._begun.pop(thread, None)
        return time.thread_time() - started
