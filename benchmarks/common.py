"""Parts that several benchmarks share: tables, the machine's name, numbers of a command line, the end of a plot."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table


def markdown(table: Sequence[Sequence[str]]) -> str:
    """A head and its rows, with numbers to the right in all columns but the first."""
    head, *body = table
    rule = ["---", *("---:" for _ in head[1:])]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in (head, rule, *body))
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def show(table: Sequence[Sequence[str]]) -> None:
    """Print a table, drawn in a terminal and as Markdown elsewhere."""
    if not sys.stdout.isatty():
        sys.stdout.write("\n" + markdown(table))
        return
    drawn = Table(*table[0])
    for line in table[1:]:
        drawn.add_row(*line)
    Console().print(drawn)


def progress_bar(refresh_per_second: float) -> Progress:
    """Return a progress bar on standard error: it shares its cores with what is measured."""
    name, ends = TextColumn("{task.description}"), (TimeElapsedColumn(), TimeRemainingColumn())
    columns = (name, BarColumn(), MofNCompleteColumn(), *ends)
    return Progress(*columns, console=Console(stderr=True), refresh_per_second=refresh_per_second)


def processor() -> str:
    """Return the name of the machine's processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (named or [platform.processor() or platform.machine()])[0]


def positive(text: str) -> int:
    """Return a number of a command line that must be at least 1."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, not {text!r}")
    return int(text)


def plot(
    benchmark: str, description: str | None, draw: Callable[[Path, Path], None], arguments: Sequence[str] | None
) -> int:
    """Draw the results of a benchmark, of the files that a command line names; the exit status."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help=f"{benchmark}.json, as python -m benchmarks.{benchmark} writes it")
    parser.add_argument("out", type=Path, help="the picture: .png or .svg")
    options = parser.parse_args(arguments)
    try:
        draw(options.results, options.out)
    except (OSError, ValueError) as error:
        print(f"{benchmark}.plot: {error}", file=sys.stderr)
        return 1
    print(f"wrote {options.out}")
    return 0
