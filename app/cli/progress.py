"""What a command is doing while it takes its time: a line that changes in a terminal, one line each elsewhere."""

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
    """A function that shows what is being done, from any thread; in a terminal the last line goes when it is done."""
    with ExitStack() as stack:
        yield _drawn(stack) if sys.stderr.isatty() else _printed


def _printed(doing: str) -> None:
    typer.echo(f"renorm: {doing}", err=True)


def _drawn(stack: ExitStack) -> Callable[[str], None]:
    shown: Status | None = None

    def show(doing: str) -> None:
        nonlocal shown
        if shown is None:
            from rich.console import Console

            shown = stack.enter_context(Console(stderr=True).status(doing))
        shown.update(doing)

    return show
