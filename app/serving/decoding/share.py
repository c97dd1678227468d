"""The part of a request's images that one thread decodes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Read = Callable[[Any], NDArray[np.uint8]]


class CostlyError(Exception):
    """An image is too costly to decode in a thread."""


class Share:
    """The images of a request that one thread decodes into their places in ``pixels``."""

    def __init__(
        self, read: Read, pixels: NDArray[np.uint8], files: Sequence[Any], places: range, started_at: dict[int, float]
    ) -> None:
        self._read, self._pixels, self._files, self._places, self._started_at = read, pixels, files, places, started_at
        self.is_cancelled = False
        self.failure: tuple[int, Exception] | None = None
        self.costly: list[int] = []

    @property
    def remaining(self) -> int:
        """The number of images still to decode."""
        return 0 if self.is_cancelled or self.failure is not None else len(self._places)

    def fill(self, count: int) -> float:
        """Decode the next ``count`` images up to the first failure, and note those too costly for a thread.

        Returns:
            Seconds of CPU time of this thread.
        """
        thread, started = threading.get_ident(), time.thread_time()
        places, self._places = self._places[:count], self._places[count:]
        for i in places:
            if self.is_cancelled:
                break
            self._started_at[thread] = time.monotonic()
            try:
                self._pixels[i] = self._read(self._files[i])
            except CostlyError:
                self.costly.append(i)
            except Exception as error:
                self.failure = i, error
                break
        self._started_at.pop(thread, None)
        return time.thread_time() - started
