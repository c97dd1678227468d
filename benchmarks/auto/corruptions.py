"""Harm to single corruptions, which the mean over a place hides: docs/auto-corruptions.csv and its table."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from app.evaluation.metrics import CLEAN, SOURCE, Figures, Place
from app.evaluation.report.tables import code, markdown, number, points, text
from app.evaluation.running.grid import stream_of
from benchmarks.auto.plan import STRATEGIES

HARM = 1.0
"""Points above `source` from which a corruption counts as harmed."""

COLUMNS = ("strategy", "protocol", "order", "batch", "corruptions", "harmed", "worst", "difference")


class CorruptionHarm(NamedTuple):
    """The corruptions of a cell compared with those of `source`."""

    strategy: str
    place: Place
    corruptions: int
    harmed: int
    worst: str  # the corruption with the largest difference
    difference: float  # its error minus that of `source`, in points


def measure_harm(figures: Iterable[Figures], names: Sequence[str]) -> list[CorruptionHarm]:
    """One for each cell with corruptions that `source` has as well; ``names`` are those of domains, by index.

    `source` answers an image alike in requests of any size, so that one cell of it stands for all of a stream.
    """
    figures = list(figures)
    frozen = {stream_of(run.cell): run.domain_errors for run in figures if run.cell.strategy == SOURCE}
    rows = []
    for run in figures:
        cell = run.cell
        if cell.strategy != SOURCE and cell.protocol != CLEAN and stream_of(cell) in frozen:
            unadapted = frozen[stream_of(cell)]
            differences = {index: error - unadapted[index] for index, error in run.domain_errors.items()}
            worst = max(differences, key=lambda index: differences[index])
            harmed = sum(difference > HARM for difference in differences.values())
            name = names[worst] if worst < len(names) else f"domain {worst}"
            place = Place(cell.protocol, cell.order, cell.batch)
            rows.append(CorruptionHarm(cell.strategy, place, len(differences), harmed, name, differences[worst]))
    return rows


def write_harm(path: Path, rows: Iterable[CorruptionHarm]) -> None:
    """Write one line each, differences with four decimals.

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([row.strategy, *row.place, *row[2:5], f"{row.difference:.4f}"] for row in rows)


def read_harm(path: Path) -> list[CorruptionHarm]:
    """Read the rows that `write_harm` wrote; none where there is no file.

    Raises:
        ValueError: it is another file.
        OSError: it cannot be read.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        head, *rows = list(csv.reader(file)) or [[]]
    if tuple(head) != COLUMNS:
        raise ValueError(f"{path} has the columns {', '.join(head)}: expected {', '.join(COLUMNS)}")
    return [
        CorruptionHarm(strategy, Place(protocol, order, int(batch)), int(count), int(harmed), worst, float(difference))
        for strategy, protocol, order, batch, count, harmed, worst, difference in rows
    ]


def harm_table(rows: Sequence[CorruptionHarm]) -> str:
    """A row for each strategy: the share of single corruptions that it harms, and the worst; empty without rows."""
    lines = []
    for strategy in STRATEGIES:
        cells = [row for row in rows if row.strategy == strategy]
        if cells:
            total, worst = sum(row.corruptions for row in cells), max(cells, key=lambda row: row.difference)
            share = 100 * sum(row.harmed for row in cells) / total if total else float("nan")
            lines.append([code(strategy), text(worst.worst), str(worst.place), points(worst.difference), number(share)])
    headers = ["strategy", "corruption", "place", "worst to `source`", "% of corruptions harmed"]
    return markdown(headers, lines, text_columns=3) if lines else ""
