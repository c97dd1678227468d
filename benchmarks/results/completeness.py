"""The cells that a table lacks, and those that writing it again would lose."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from app.evaluation.metrics import Figures
from app.evaluation.report.rows import read_csv
from app.evaluation.types import Cell


def count_missing(planned: Collection[Cell], figures: Iterable[Figures]) -> str:
    """The number of planned cells that are not among the figures, in words; empty where none are."""
    missing = len(set(planned) - {run.cell for run in figures})
    return f"{missing:,} of {len(planned):,} cells are missing" if missing else ""


def refuse_loss(planned: Collection[Cell], figures: Iterable[Figures], csv_file: Path) -> None:
    """Check that every planned cell with a row in a CSV file is among the figures that would replace its rows.

    Cells are files of one machine: on another, a first cell would replace all that was published.

    Raises:
        ValueError: a row would be lost; the message names the first such cell.
        ValueError, OSError: as `read_csv`.
    """
    if not csv_file.exists():
        return
    has_row = {run.cell for run in read_csv(csv_file)} - {run.cell for run in figures}
    if lost := [cell for cell in planned if cell in has_row]:
        strategy, *place, _ = lost[0]
        raise ValueError(
            f"{len(lost):,} rows of {csv_file} would be lost, because their cells are not in --out: the first is "
            f"{strategy} at {', '.join(map(str, place))}. Run the missing cells first (without --no-run), or write to "
            "another folder with --docs"
        )
