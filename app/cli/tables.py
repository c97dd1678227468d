"""Tables: drawn in a terminal, plain aligned columns in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Container, Sequence

import typer


def show(
    title: str, headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Container[int] = frozenset()
) -> None:
    """Print a table. Columns in ``right`` hold numbers; in a pipe every row is one line, however long."""
    if sys.stdout.isatty():
        _draw(title, headers, rows, right)
        return
    lines = [headers, *rows] if any(headers) else rows
    widths = [max(len(line[i]) for line in lines) for i in range(len(headers))]
    typer.echo(title)
    for line in lines:
        cells = (
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        typer.echo("  ".join(cells).rstrip())
    typer.echo()


def _draw(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]], right: Container[int]) -> None:
    from rich import box, print
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_header=any(headers), pad_edge=False)
    for i, header in enumerate(headers):
        table.add_column(header, justify="right" if i in right else "left")
    for row in rows:
        # Text, because strings would be read as markup: a class may be called [red].
        table.add_row(*(Text(cell) for cell in row))
    print(table)
