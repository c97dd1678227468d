"""Record what the server of a checkout answers, and compare two recordings.

    python -m benchmarks.recording record before.json --checkout ../main
    python -m benchmarks.recording compare before.json after.json

`record` starts ``python -m app serve`` of the checkout on ports of its own and sends it a fixed sequence of requests,
one after another: every strategy, door and size, then wrong requests. It uses public addresses and protocols alone, so
that it runs unchanged against older commits. `compare` exits with 1 if a number, code, status or field differs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from .comparison import compare
from .descriptions import descriptions
from .doors import Doors
from .entries import Entry, Recording, environment
from .error_cases import KEY, LIMITS, open_errors, restricted_errors
from .sequence import predictions, requests
from .server import serve

SHOWN = 50


def record(path: Path, checkout: Path) -> None:
    """Write the recording of a checkout."""
    entries: list[Entry] = []
    console = Console(stderr=True)
    with Progress(console=console) as progress:
        task = progress.add_task("predictions", total=requests())

        def collect(part: Iterator[Entry], description: str) -> None:
            progress.update(task, description=description)
            for entry in part:
                entries.append(entry)
                progress.update(task, advance=1, total=max(requests(), len(entries)))

        with serve(checkout) as address, Doors(address) as doors:
            collect(predictions(doors), "predictions")
            collect(descriptions(doors), "descriptions")
            collect(open_errors(doors), "errors")
        with serve(checkout, *LIMITS) as address, Doors(address) as stranger, Doors(address, KEY) as owner:
            collect(restricted_errors(stranger, owner), "errors")
        progress.update(task, total=len(entries))
    Recording(environment(checkout), entries).save(path)
    counts = {kind: sum(entry.kind == kind for entry in entries) for kind in ("prediction", "error", "description")}
    console.print(f"{path}: " + ", ".join(f"{count} {kind}s" for kind, count in counts.items()))


def report(first: Path, second: Path) -> bool:
    """Print the comparison of two recordings; return whether nothing differs that must not."""
    previous, updated = Recording.load(first), Recording.load(second)
    result = compare(previous, updated)
    console = Console()
    for name in previous.environment.keys() | updated.environment.keys():
        values = [recording.environment.get(name) for recording in (previous, updated)]
        if values[0] != values[1]:
            console.print(f"{name}: {values[0]} -> {values[1]}", markup=False)
    table = Table("entries", "sent", "identical", "worded differently")
    for kind in sorted(result.total):
        table.add_row(kind, *(str(counts[kind]) for counts in (result.total, result.identical, result.reworded)))
    console.print(table)
    for difference in result.differences[:SHOWN]:
        console.print(difference, markup=False, soft_wrap=True)
    if len(result.differences) > SHOWN:
        console.print(f"... and {len(result.differences) - SHOWN} further differences")
    return result.is_identical


def main() -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recording", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    recorder = commands.add_parser("record", help="record the answers of a checkout's server")
    recorder.add_argument("file", type=Path)
    recorder.add_argument("--checkout", type=Path, default=Path(), help="folder with the code (default: this one)")
    comparer = commands.add_parser("compare", help="compare two recordings")
    comparer.add_argument("file", type=Path)
    comparer.add_argument("other", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "compare":
        return 0 if report(arguments.file, arguments.other) else 1
    record(arguments.file, arguments.checkout.resolve())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
