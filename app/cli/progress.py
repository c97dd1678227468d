"""Progress messages of a command: one changing line in a terminal, one line each elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.status import Status


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows the current step, from any thread; in a terminal the line is removed at the end."""
    with ExitStack() as stack:
        yield _status_line(stack) if sys.stderr.isatty() else _print_line


def _print_line(step: str) -> None:
    typer.echo(f"renorm: {step}", err=True)


def _status_line(stack: ExitStack) -> Callable[[str], None]:
    status: Status | None = None

    def show(step: str) -> None:
        nonlocal status
        if status is None:
            from rich.console import Console

            status = stack.enter_context(Console(stderr=True).status(step))
        status.update(step)

    return show
