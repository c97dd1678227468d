"""Metrics as rows of a CSV file, for programs: `results.csv`."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from app.evaluation.metrics import NO_BINS, Figures, differences
from app.evaluation.types import Cell

COLUMNS = (
    *("strategy", "protocol", "order", "batch", "seed", "images", "error", "ece"),
    *("difference_to_source", "images_per_s", "state_bytes", "seconds"),
)
"""Of the file: errors and ECE in percent, the difference in points; empty where it is not known."""


def write_rows(path: Path, figures: Sequence[Figures]) -> None:
    """Write one row for each of the figures, in their order.

    Raises:
        OSError: the file cannot be written.
    """
    difference_of = differences(figures)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for run in figures:
            measured = map(_format_value, (run.error, run.ece, difference_of.get(run.cell, math.nan), run.images_per_s))
            writer.writerow([*run.cell, run.images, *measured, run.state_bytes, _format_value(run.seconds)])


def read_csv(path: Path) -> list[Figures]:
    """Read the rows of a file in order: rounded, without domains and without bins of confidence.

    Raises:
        ValueError: the file is not one of `write_rows`; the message names the row.
        OSError: it cannot be read.
    """
    with path.open(newline="", encoding="utf-8") as file:
        head, *rows = list(csv.reader(file)) or [[]]
    if tuple(head) != COLUMNS:
        raise ValueError(f"{path} has the columns {', '.join(head)}, expected {', '.join(COLUMNS)}")
    return [_figures(row, f"{path}, row {i}") for i, row in enumerate(rows, 2)]


def _format_value(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else ""


def _figures(row: Sequence[str], location: str) -> Figures:
    try:
        strategy, protocol, order, batch, seed, images, error, ece, _, speed, state_bytes, seconds = row
        return Figures(
            cell=Cell(strategy, protocol, order, int(batch), int(seed)),
            images=int(images),
            error=float(error),
            ece=float(ece),
            domain_errors={},
            bins=NO_BINS,
            seconds=float(seconds or math.nan),
            images_per_s=float(speed or math.nan),
            state_bytes=int(state_bytes),
        )
    except ValueError as error:
        raise ValueError(f"{location} is not a row of results: {error}") from error
