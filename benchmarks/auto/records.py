"""The rows of docs/ that an earlier study wrote and this one did not measure again.

Cells are files of one machine, and a study of days outlives it: what was published is kept until it is measured anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from app.evaluation.metrics import Figures
from app.evaluation.report.rows import read_csv
from app.evaluation.types import Cell
from benchmarks.auto.corruptions import CorruptionHarm
from benchmarks.auto.plan import SUBJECTS, Subject
from benchmarks.results.plan import cells


def merge_rows(subject: Subject, new_figures: Iterable[Figures], csv_file: Path) -> list[Figures]:
    """The measured figures and, for cells of the subject without any, the rows of a CSV file; in the plan's order.

    A reduced subject, which is a trial, gets no published rows: they are of more images.

    Raises:
        ValueError, OSError: as `read_csv`.
    """
    old_figures = read_csv(csv_file) if subject in SUBJECTS and csv_file.exists() else []
    by_cell: dict[Cell, Figures] = {run.cell: run for run in [*old_figures, *new_figures]}
    return [by_cell[cell] for cell in cells(subject.evaluations) if cell in by_cell]


def merge_harm(
    figures: Iterable[Figures], new_rows: Iterable[CorruptionHarm], old_rows: Iterable[CorruptionHarm]
) -> list[CorruptionHarm]:
    """The measured rows and, for cells of ``figures`` without any, the published ones; in the order of ``figures``."""
    by_cell = {(row.strategy, *row.place): row for row in [*old_rows, *new_rows]}
    return [by_cell[run.cell[:-1]] for run in figures if run.cell[:-1] in by_cell]
