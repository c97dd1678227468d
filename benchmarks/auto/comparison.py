"""Places of the grid, and how far each strategy is from `source` and from the best fixed strategy there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from app.evaluation.metrics import CLEAN, SOURCE, Figures, Place, Summary, mean, summarize
from benchmarks.auto.plan import AUTO, FIXED

NEAR = 2.0
"""Points above the best fixed strategy of a place within which a strategy is as good."""

Grid = Mapping[Place, Mapping[str, Summary]]
"""What was measured: by place, then by strategy."""


class Distance(NamedTuple):
    """A difference of errors in points, and the place."""

    points: float
    place: Place


def make_grid(figures: Iterable[Figures]) -> Grid:
    """The figures by place and strategy, in their order; over seeds, means."""
    grid: dict[Place, dict[str, Summary]] = {}
    for summary in summarize(figures):
        grid.setdefault(summary.place, {})[summary.strategy] = summary
    return grid


def select_compared(grid: Grid) -> Grid:
    """The places where `auto` and all fixed strategies were measured: means over others would compare unlike things."""
    return {place: row for place, row in grid.items() if {AUTO, *FIXED} <= set(row)}


def select_protocols(grid: Grid, *, clean: bool) -> Grid:
    """The clean places only, or all others."""
    return {place: row for place, row in grid.items() if (place.protocol == CLEAN) is clean}


def find_best_fixed(row: Mapping[str, Summary]) -> Summary:
    """The fixed strategy with the lowest error at a place; the first of several."""
    return min((row[strategy] for strategy in FIXED if strategy in row), key=lambda summary: summary.error)


def mean_error(grid: Grid, strategy: str) -> float:
    """The mean error of a strategy in percent over the places that it has; NaN without any."""
    return mean([row[strategy].error for row in grid.values() if strategy in row])


def distances_to_source(grid: Grid, strategy: str) -> list[Distance]:
    """Error minus that of `source` at every place that has both, the largest first."""
    return _sorted(
        Distance(row[strategy].error - row[SOURCE].error, place)
        for place, row in grid.items()
        if strategy in row and SOURCE in row
    )


def distances_to_best(grid: Grid, strategy: str) -> list[Distance]:
    """Error minus that of the best fixed strategy of the place at every compared place, the largest first."""
    return _sorted(
        Distance(row[strategy].error - find_best_fixed(row).error, place)
        for place, row in select_compared(grid).items()
    )


def share_near_best(grid: Grid, strategy: str) -> float:
    """Percent of the compared places where a strategy is at most `NEAR` points above the best fixed one."""
    distances = distances_to_best(grid, strategy)
    # A hair more: differences of percentages are not exact in binary.
    return 100 * mean([float(distance.points <= NEAR + 1e-9) for distance in distances])


def find_best_mean(grid: Grid) -> tuple[str, float]:
    """The fixed strategy with the lowest mean error over the compared places, and that error; NaN without any."""
    compared = select_compared(grid)
    means = {strategy: mean_error(compared, strategy) for strategy in FIXED}
    best = min(FIXED, key=lambda strategy: means[strategy] if math.isfinite(means[strategy]) else math.inf)
    return best, means[best]


def largest(distances: Sequence[Distance]) -> float:
    """The largest of sorted distances; NaN without any."""
    return distances[0].points if distances else math.nan


def _sorted(distances: Iterable[Distance]) -> list[Distance]:
    return sorted(distances, key=lambda distance: -distance.points)
