"""How far an evaluation got: bars in a terminal, elsewhere a line for every tenth and at least every ten seconds."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from app.evaluation.types import Cell

Told = Callable[["Cell", int, int], None]

MOST_BARS = 12
"""Strategies with a bar of their own: with more, they would not fit on a screen."""

EVERY = 10  # percent
EVERY_S = 10.0
"""Seconds after which a line comes, however little was done: who reads a log wants to see that something is."""


@contextmanager
def cells_progress(images: dict[str, int]) -> Iterator[Told]:
    """A function that counts what each request answered. ``images`` are those to come, by strategy."""
    if sys.stderr.isatty():
        with _bars(images) as told:
            yield told
    else:
        yield Lines(sum(images.values())).told


class Lines:
    """Counts images and prints lines; ``now`` is the time in seconds."""

    def __init__(self, total: int, now: Callable[[], float] = time.monotonic) -> None:
        self._total, self._done, self._wrong, self._now = total, 0, 0, now
        self._next, self._began = EVERY, now()
        self._last = self._began

    def told(self, _: Cell, images: int, wrong: int) -> None:
        """Count one request, and say how far it is if that is due."""
        self._done, self._wrong = self._done + images, self._wrong + wrong
        percent, now = 100 * self._done // self._total, self._now()
        if percent < self._next and now - self._last < EVERY_S:
            return
        self._next, self._last = percent - percent % EVERY + EVERY, now
        left = (now - self._began) * (self._total - self._done) / self._done
        typer.echo(
            f"renorm: {percent} % of {self._total:,} images, error so far {_error(self._wrong, self._done)}, "
            f"about {_duration(left)} left",
            err=True,
        )


@contextmanager
def _bars(images: dict[str, int]) -> Iterator[Told]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[error]}"),
    )
    done, wrong = Counter[str](), Counter[str]()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        everything = progress.add_task("all strategies", total=sum(images.values()), error="")
        own = _own_bars(images)
        tasks = {name: progress.add_task(name, total=images[name], error="") for name in own}

        def told(cell: Cell, count: int, missed: int) -> None:
            for name, task in [("", everything), (cell.strategy, tasks.get(cell.strategy))]:
                done[name] += count
                wrong[name] += missed
                if task is not None:
                    progress.update(task, advance=count, error=f"error {_error(wrong[name], done[name])}")

        yield told


def _own_bars(images: dict[str, int]) -> Sequence[str]:
    return list(images) if len(images) <= MOST_BARS else []


def _error(wrong: int, images: int) -> str:
    return f"{100 * wrong / images:.1f} %"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
