"""Metrics as rows of a CSV file, for programs: `results.csv`."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from app.evaluation.class_runs import ClassRuns
from app.evaluation.metrics import NO_BINS, Figures, differences
from app.evaluation.recovery import Changes
from app.evaluation.types import Cell

COLUMNS = (
    *("strategy", "protocol", "order", "batch", "seed", "images", "error", "ece"),
    *("difference_to_source", "images_per_s", "state_bytes", "seconds"),
    *("class_run_mean", "class_run_median"),
    *("recovery_mean", "recovery_quantile", "first_visit_error", "last_visit_error"),
)
"""Of the file: errors and ECE in percent, the difference in points; empty where it is not known."""

OLDEST = 12
"""Columns of the oldest files. Later ones come after them, and may be missing in a file that is read."""


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
            later = map(_format_value, (run.seconds, *run.runs, *run.changes))
            writer.writerow([*run.cell, run.images, *measured, run.state_bytes, *later])


def read_csv(path: Path) -> list[Figures]:
    """Read the rows of a file in order: rounded, without domains and without bins of confidence.

    Files of earlier versions lack the last columns: their values are NaN.

    Raises:
        ValueError: the file is not one of `write_rows`; the message names the row.
        OSError: it cannot be read.
    """
    with path.open(newline="", encoding="utf-8") as file:
        head, *rows = list(csv.reader(file)) or [[]]
    if tuple(head) != COLUMNS[: max(len(head), OLDEST)]:
        raise ValueError(f"{path} has the columns {', '.join(head)}, expected {', '.join(COLUMNS)}")
    return [_figures(row, len(head), f"{path}, row {i}") for i, row in enumerate(rows, 2)]


def _format_value(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else ""


def _figures(row: Sequence[str], columns: int, location: str) -> Figures:
    try:
        if len(row) != columns:
            raise ValueError(f"it has {len(row)} values, not {columns}")
        strategy, protocol, order, batch, seed, images, error, ece, _, speed, state_bytes, seconds = row[:OLDEST]
        later = [float(value or math.nan) for value in [*row[OLDEST:], *[""] * (len(COLUMNS) - columns)]]
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
            runs=ClassRuns(*later[:2]),
            changes=Changes(*later[2:]),
        )
    except ValueError as error:
        raise ValueError(f"{location} is not a row of results: {error}") from error
