"""Progress of an evaluation: bars in a terminal, elsewhere a line every tenth and at least every ten seconds."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from app.evaluation.types import Cell

OnProgress = Callable[["Cell", int, int], None]

MAX_BARS = 12
"""The largest number of strategies with a bar each that fits on a screen."""

EVERY_PERCENT = 10  # percent
EVERY_S = 10.0
"""Seconds after which a line is printed even without progress: a sign of life in a log."""


@contextmanager
def cells_progress(images: dict[str, int]) -> Iterator[OnProgress]:
    """Yield a function that counts the images of each request. ``images`` are the totals by strategy."""
    if sys.stderr.isatty():
        with _bars(images) as count:
            yield count
    else:
        yield Lines(sum(images.values())).count


class Lines:
    """A counter of images that prints lines; ``clock`` returns the time in seconds."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._done, self._wrong, self._clock = total, 0, 0, clock
        self._next, self._began = EVERY_PERCENT, clock()
        self._last = self._began

    def count(self, _: Cell, images: int, wrong: int) -> None:
        """Count one request, and print the progress if a line is due."""
        self._done, self._wrong = self._done + images, self._wrong + wrong
        percent, timestamp = 100 * self._done // self._total, self._clock()
        if percent < self._next and timestamp - self._last < EVERY_S:
            return
        self._next, self._last = percent - percent % EVERY_PERCENT + EVERY_PERCENT, timestamp
        remaining = (timestamp - self._began) * (self._total - self._done) / self._done
        typer.echo(
            f"renorm: {percent} % of {self._total:,} images, error so far {_error(self._wrong, self._done)}, "
            f"about {_duration(remaining)} left",
            err=True,
        )


@contextmanager
def _bars(totals: dict[str, int]) -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    name, error = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[error]}")
    columns = (name, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), error)
    done, wrong = Counter[str](), Counter[str]()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        everything = progress.add_task("all strategies", total=sum(totals.values()), error="")
        bars = totals if len(totals) <= MAX_BARS else {}
        tasks = {name: progress.add_task(name, total=total, error="") for name, total in bars.items()}

        def count(cell: Cell, images: int, missed: int) -> None:
            for name, task in [("", everything), (cell.strategy, tasks.get(cell.strategy))]:
                done[name] += images
                wrong[name] += missed
                if task is not None:
                    progress.update(task, advance=images, error=f"error {_error(wrong[name], done[name])}")

        yield count


def _error(wrong: int, images: int) -> str:
    return f"{100 * wrong / images:.1f} %"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
