"""Calibration of the strategies: the expected calibration error (ECE) in points, against that of `source`."""

from __future__ import annotations

from app.evaluation.metrics import SOURCE, mean
from app.evaluation.report.tables import MISSING, code, embolden, markdown, number, points
from benchmarks.auto.comparison import Grid, select_compared, select_protocols
from benchmarks.auto.plan import AUTO, STRATEGIES

TEXT = """\
The expected calibration error (ECE, 15 bins, in points) is the mean distance of an answer's confidence from how often
such answers are right. Means are over the places where every strategy was run.
"""


def mean_ece(grid: Grid, strategy: str) -> float:
    """The mean calibration error of a strategy over the places that it has; NaN without any."""
    return mean([row[strategy].ece for row in grid.values() if strategy in row])


def ece_differences(grid: Grid, strategy: str) -> list[float]:
    """Calibration error minus that of `source` at every place that has both."""
    return [row[strategy].ece - row[SOURCE].ece for row in grid.values() if strategy in row and SOURCE in row]


def measure_ece(grid: Grid) -> float:
    """The mean over the places of the calibration error of `auto` minus that of `source`."""
    return mean(ece_differences(grid, AUTO))


def calibration_table(grid: Grid) -> str:
    """A row for each strategy: its mean calibration errors, and how it compares with `source` place by place."""
    compared = select_compared(grid)
    rows = []
    for strategy in STRATEGIES:
        differences = ece_differences(grid, strategy) if strategy != SOURCE else []
        share = number(100 * mean([float(value <= 0) for value in differences]), 0) if differences else MISSING
        rows.append(
            [
                code(strategy),
                *(number(mean_ece(select_protocols(compared, clean=clean), strategy)) for clean in (False, True)),
                points(max(differences)) if differences else MISSING,
                share,
            ]
        )
    for column in (1, 2):
        embolden(rows, column)
    return markdown(
        ["strategy", "ECE", "ECE, clean", "worst to `source`", "% of places at most that of `source`"], rows
    )
