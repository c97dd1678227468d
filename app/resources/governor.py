"""How many threads a forward takes: all cores or one, whichever is measured to be faster."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NEW = 0.3
"""Weight of the newest forward in a mean."""

LEAVE, RETURN = 0.7, 1.1
"""One thread is chosen where it takes less than that share of the time of all, and all again where they take less than
that many times its time: where both hardly differ all are taken, and they do not alternate."""

OFTEN_S, COST = 1.0, 0.01
"""Seconds between two forwards with the other choice, at least, and the share of all time that these may cost."""

SPIN = "20000"
"""Turns, about a millisecond, for which a thread of a parallel loop waits at work before it sleeps."""


def limit_spinning() -> None:
    """Let idle threads of a parallel loop sleep soon; to be called before torch is imported.

    By default libgomp lets them spin for some 15 ms, as if nobody else were there: beside one busy program on two cores
    a forward then takes up to a hundred times as long as with one thread. Who has chosen something else is heeded.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPIN


class Governor:
    """Chooses the number of threads of the thread that calls it, for each size of forwards, by the time they took.

    The threads of a parallel loop wait for each other. Where another program takes a core, each loop lasts until the
    scheduler lets the last of them run, and one thread is faster; so it is for small networks. What others do is not
    asked: now and then a forward runs with the other choice, the more rarely the more that cost the last time.
    """

    def __init__(self, most: int, apply: Callable[[int], None], clock: Callable[[], float] = time.perf_counter) -> None:
        self._most, self._apply, self._clock = most, apply, clock
        self.threads = most
        self._sizes: dict[int, _Choice] = {}
        apply(most)

    @contextmanager
    def forward(self, images: int) -> Iterator[None]:
        """Choose for a forward of so many images, which the block runs, and measure it; failures tell nothing."""
        if self._most == 1:
            yield
            return
        choice = self._sizes.setdefault(images.bit_length(), _Choice())
        begun = self._clock()
        is_single = choice.is_next_single(begun)
        self._set(1 if is_single else self._most)
        yield
        choice.add((self._clock() - begun) / images, images, is_single=is_single, now=begun)

    def _set(self, threads: int) -> None:
        if threads != self.threads:
            self.threads = threads
            self._apply(threads)


class _Choice:
    """One thread or all, for forwards of about one size."""

    def __init__(self) -> None:
        self._per_image: dict[bool, float] = {}  # seconds, by whether it was a single thread
        self._is_single = False
        self._trial = 0.0  # when the other choice is tried next

    def is_next_single(self, now: float) -> bool:
        """Whether the next forward is to take a single thread."""
        return not self._is_single if now >= self._trial and self._per_image else self._is_single

    def add(self, per_image_s: float, images: int, *, is_single: bool, now: float) -> None:
        """A forward has run."""
        trial = is_single != self._is_single
        known = self._per_image.get(is_single, per_image_s)
        # What a trial finds is news: the one before it may be minutes old.
        self._per_image[is_single] = per_image_s if trial else known + NEW * (per_image_s - known)
        if len(self._per_image) < 2:
            return
        if trial:
            chosen = self._per_image[self._is_single]
            self._trial = now + max(OFTEN_S, images * (per_image_s - chosen) / COST)
        single, together = self._per_image[True], self._per_image[False]
        self._is_single = together > RETURN * single if self._is_single else single < LEAVE * together
