"""The number of threads of a forward: all cores or one, whichever is measured to be faster."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NEWEST_WEIGHT = 0.3
"""Weight of the newest forward in a running mean."""

TO_SINGLE, TO_PARALLEL = 0.7, 1.1
"""Switch to one thread where it takes less than this share of the parallel time, and back where the parallel time is
at most this multiple of the single one: where both hardly differ all threads are used, without alternating."""

TRIAL_INTERVAL_S, TRIAL_COST = 1.0, 0.01
"""Minimum seconds between two trials of the other choice, and the share of all time that trials may cost."""

SPIN = "20000"
"""Spins, about a millisecond, for which an idle thread of a parallel loop waits before it sleeps."""


def limit_spinning() -> None:
    """Let idle threads of a parallel loop sleep soon; to be called before torch is imported.

    By default libgomp lets them spin for some 15 ms, as if no other program ran: beside one busy program on two cores
    a forward then takes up to a hundred times as long as with one thread. An explicit choice is respected.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPIN


class Governor:
    """Chooses the number of threads of the calling thread's forwards by measured time, for each size of forwards.

    The threads of a parallel loop wait for each other. Where another program takes a core, each loop lasts until the
    scheduler lets the last thread run, and one thread is faster; the same is true for small networks. From time to time
    a forward runs with the other choice, the less often the more the last trial cost.
    """

    def __init__(
        self, max_threads: int, apply: Callable[[int], None], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._max_threads, self._apply, self._clock = max_threads, apply, clock
        self.threads = max_threads
        self._sizes: dict[int, _Choice] = {}
        apply(max_threads)

    @contextmanager
    def forward(self, images: int) -> Iterator[None]:
        """Choose the threads for a forward of ``images`` images, run by the block, and time it unless it fails."""
        if self._max_threads == 1:
            yield
            return
        choice = self._sizes.setdefault(images.bit_length(), _Choice())
        started = self._clock()
        is_single = choice.is_next_single(started)
        self._set(1 if is_single else self._max_threads)
        yield
        choice.add((self._clock() - started) / images, images, is_single=is_single, timestamp=started)

    def _set(self, threads: int) -> None:
        if threads != self.threads:
            self.threads = threads
            self._apply(threads)


class _Choice:
    """The choice between one thread and all, for forwards of about one size."""

    def __init__(self) -> None:
        self._per_image: dict[bool, float] = {}  # mean seconds, by whether the thread was single
        self._is_single = False
        self._next_trial = 0.0  # time of the next trial of the other choice

    def is_next_single(self, timestamp: float) -> bool:
        """Return whether the next forward takes a single thread."""
        return not self._is_single if timestamp >= self._next_trial and self._per_image else self._is_single

    def add(self, per_image_s: float, images: int, *, is_single: bool, timestamp: float) -> None:
        """Record the time of a forward."""
        is_trial = is_single != self._is_single
        mean = self._per_image.get(is_single, per_image_s)
        # A trial replaces the mean: the previous one may be minutes old.
        self._per_image[is_single] = per_image_s if is_trial else mean + NEWEST_WEIGHT * (per_image_s - mean)
        if len(self._per_image) < 2:
            return
        if is_trial:
            current = self._per_image[self._is_single]
            self._next_trial = timestamp + max(TRIAL_INTERVAL_S, images * (per_image_s - current) / TRIAL_COST)
        single, parallel = self._per_image[True], self._per_image[False]
        self._is_single = parallel > TO_PARALLEL * single if self._is_single else single < TO_SINGLE * parallel
