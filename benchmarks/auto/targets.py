"""The targets that were set before `auto` was made, and whether they are reached, as the figures say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from app.evaluation.report.tables import MISSING, markdown, number, points
from benchmarks.auto.calibration import measure_ece
from benchmarks.auto.comparison import (
    Grid,
    distances_to_source,
    find_best_mean,
    largest,
    mean_error,
    select_compared,
    select_protocols,
    share_near_best,
)
from benchmarks.auto.plan import AUTO, FIXED

GAIN = "mean error under corruptions below that of the best fixed strategy, points"
CHOICE = "the same, had the best fixed strategy *of each place* been known, points"


class Goal(NamedTuple):
    """A bound on a figure of `auto`."""

    name: str
    bound: str  # in words
    measure: Callable[[Grid], float]  # NaN: not measured
    limit: float
    is_upper: bool
    show: Callable[[float], str]

    def judge(self, grid: Grid) -> str:
        """The figure and the verdict."""
        value = self.measure(grid)
        if not math.isfinite(value):
            return MISSING
        # Compared as it is shown: a verdict that the figure beside it denies would be no help.
        rounded = round(value, 1)
        is_reached = rounded <= self.limit if self.is_upper else rounded >= self.limit
        return f"{self.show(value)} {'reached' if is_reached else '**missed**'}"


def measure_worst(grid: Grid) -> float:
    """The largest difference to `source` at any place."""
    return largest(distances_to_source(grid, AUTO))


def measure_worst_clean(grid: Grid) -> float:
    """The largest difference to `source` on clean streams."""
    return largest(distances_to_source(select_protocols(grid, clean=True), AUTO))


def measure_gain(grid: Grid) -> float:
    """The distance of the mean error under corruptions below that of the fixed strategy with the lowest mean."""
    shifted = select_compared(select_protocols(grid, clean=False))
    return find_best_mean(shifted)[1] - mean_error(shifted, AUTO)


def measure_choice(grid: Grid) -> float:
    """The same of a choice that nobody has: of the best fixed strategy of each place, by its labels."""
    shifted = select_compared(select_protocols(grid, clean=False))
    if not shifted:
        return math.nan
    lowest = [min(row[strategy].error for strategy in FIXED) for row in shifted.values()]
    return find_best_mean(shifted)[1] - sum(lowest) / len(lowest)


def measure_share(grid: Grid) -> float:
    """Percent of places within two points of the best fixed strategy of the place."""
    return share_near_best(grid, AUTO)


def measure_visits(grid: Grid) -> float:
    """The largest difference of the last visit of recurring domains to the first."""
    changes = [row[AUTO].changes for row in grid.values() if AUTO in row]
    return _largest(change.last_visit - change.first_visit for change in changes)


def measure_recovery(grid: Grid) -> float:
    """The longest mean time of recovery of any stream whose domains follow each other, in images."""
    return _largest(row[AUTO].changes.recovery_mean for row in grid.values() if AUTO in row)


def _largest(values: Iterable[float]) -> float:
    return max((value for value in values if math.isfinite(value)), default=math.nan)


TARGETS = (
    Goal("worst place against `source`, points", "at most +1.0", measure_worst, 1.0, True, points),
    Goal("worst clean stream against `source`, points", "at most +0.5", measure_worst_clean, 0.5, True, points),
    Goal(
        GAIN,
        "at least 5.0",
        measure_gain,
        5.0,
        False,
        number,
    ),
    Goal(
        "places within 2 points of the best fixed strategy *of that place*, %",
        "at least 90",
        measure_share,
        90.0,
        False,
        number,
    ),
    Goal("calibration error (ECE) minus that of `source`, mean, points", "at most 0", measure_ece, 0.0, True, points),
    Goal("recurring domains: last visit minus first, points", "at most 0", measure_visits, 0.0, True, points),
    Goal(
        "images until a segment's error is within 2 points of its own best, the longest mean",
        "at most 64",
        measure_recovery,
        64.0,
        True,
        number,
    ),
)


def targets_table(grids: Mapping[str, Grid]) -> str:
    """A row for each target, a column for each network and data set by its title."""
    rows = [[target.name, target.bound, *map(target.judge, grids.values())] for target in TARGETS]
    choices = map(measure_choice, grids.values())
    figures = [number(value) if math.isfinite(value) else MISSING for value in choices]
    rows.insert(rows.index(next(row for row in rows if row[0] == GAIN)) + 1, [CHOICE, "-", *figures])
    return markdown(["what", "target", *grids], rows, text_columns=2)
