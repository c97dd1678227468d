"""The tables of docs/auto.md, computed from the figures of the CSV files. Errors are in percent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from app.evaluation.metrics import SOURCE, Place, Summary, mean
from app.evaluation.recovery import RECURRING, SUCCESSIVE
from app.evaluation.report.tables import MISSING, code, embolden, markdown, number, points
from app.evaluation.specs import parse_specs
from benchmarks.auto.comparison import (
    Distance,
    Grid,
    distances_to_best,
    distances_to_source,
    find_best_fixed,
    mean_error,
    select_compared,
    select_protocols,
    share_near_best,
)
from benchmarks.auto.plan import ABLATIONS, AUTO, STRATEGIES

WORST_COUNT = 10
"""Places in the table of those where `auto` loses."""


def strategies_table(grid: Grid) -> str:
    """A row for each strategy: its mean errors, its worst places against `source`, its share of good places."""
    compared = select_compared(grid)
    shifted, clean = (select_protocols(compared, clean=is_clean) for is_clean in (False, True))
    rows = []
    for strategy in STRATEGIES:
        worst = [distances_to_source(select_protocols(grid, clean=is_clean), strategy) for is_clean in (False, True)]
        rows.append(
            [
                code(strategy),
                number(mean_error(shifted, strategy)),
                number(mean_error(clean, strategy)),
                *(_worst_cell(distances) if strategy != SOURCE else MISSING for distances in worst),
                number(share_near_best(grid, strategy), 0),
            ]
        )
    for column in (1, 2):
        embolden(rows, column)
    headers = ["strategy", "mean error", "clean", "worst to `source`", "worst clean", "% of places near the best"]
    return markdown(headers, rows)


def _worst_cell(distances: Sequence[Distance]) -> str:
    return f"{points(distances[0].points)} ({distances[0].place})" if distances else MISSING


def places_table(grid: Grid, protocols: Sequence[str]) -> str:
    """A row for each place of these protocols: `source`, the best fixed strategy by name, and `auto`."""
    rows = []
    for place, row in sorted(grid.items(), key=lambda item: _rank(item[0], protocols)):
        if place.protocol in protocols and SOURCE in row:
            best = find_best_fixed(row)
            auto = row.get(AUTO)
            rows.append(
                [
                    *(place.protocol, place.order, str(place.batch), number(row[SOURCE].error)),
                    f"{number(best.error)} {code(best.strategy)}",
                    number(auto.error) if auto else MISSING,
                    points(auto.error - row[SOURCE].error) if auto else MISSING,
                    points(auto.error - best.error) if auto else MISSING,
                ]
            )
    headers = [
        "protocol",
        "order",
        "images a request",
        "`source`",
        "best fixed",
        "`auto`",
        "to `source`",
        "to the best",
    ]
    return markdown(headers, rows, text_columns=2)


def _rank(place: Place, protocols: Sequence[str]) -> tuple[int, int]:
    """Sort by protocol and request size; the sort keeps orders as they come."""
    return (protocols.index(place.protocol) if place.protocol in protocols else -1), place.batch


def worst_table(grid: Grid) -> str:
    """The places where `auto` is furthest above the best fixed strategy of the place, and above it at all."""
    rows = []
    for distance, place in distances_to_best(grid, AUTO)[:WORST_COUNT]:
        if distance <= 0:
            break
        row = grid[place]
        best = find_best_fixed(row)
        rows.append(
            [
                str(place),
                *(number(row[strategy].error) for strategy in (SOURCE, AUTO)),
                f"{number(best.error)} {code(best.strategy)}",
                points(distance),
            ]
        )
    return markdown(["place", "`source`", "`auto`", "best fixed", "to the best"], rows)


def visits_table(grid: Grid) -> str:
    """A row for each strategy on each stream of recurring domains: the errors of the first and the last visit."""
    rows = [
        [code(strategy), place.order, str(place.batch), *_visits(summary)]
        for place, row in grid.items()
        if place.protocol == RECURRING
        for strategy, summary in row.items()
    ]
    return markdown(["strategy", "order", "images a request", "first visit", "last visit", "last - first"], rows, 2)


def _visits(summary: Summary) -> list[str]:
    first, last = summary.changes.first_visit, summary.changes.last_visit
    return [number(first), number(last), points(last - first)]


def recovery_table(grid: Grid) -> str:
    """A row for each strategy, a column for each stream whose domains follow each other: images until it recovers."""
    places = [place for place in grid if place.protocol in SUCCESSIVE]
    rows = [
        [code(strategy), *(_recovery(grid[place].get(strategy)) for place in places)]
        for strategy in STRATEGIES
        if any(strategy in grid[place] for place in places)
    ]
    return markdown(["images, mean (90 % quantile)", *map(str, places)], rows)


def _recovery(summary: Summary | None) -> str:
    if summary is None or not math.isfinite(summary.changes.recovery_mean):
        return MISSING
    return f"{number(summary.changes.recovery_mean, 0)} ({number(summary.changes.recovery_quantile, 0)})"


def ablation_table(grid: Grid) -> str:
    """A row for each strategy of `ABLATIONS`: its errors where all of them were measured, and the mean of those.

    Empty where no place has all of them.
    """
    variants = {parse_specs([strategy])[0].text: meaning for strategy, meaning in ABLATIONS.items()}
    complete = {place: row for place, row in grid.items() if set(variants) <= set(row)}
    if not complete:
        return ""
    rows = [_ablation(strategy, meaning, complete) for strategy, meaning in variants.items()]
    for column in range(2, 3 + len(complete)):
        embolden(rows, column)
    headers = ["strategy", "what is off", "mean", *map(str, complete), "worst to `source`"]
    return markdown(headers, rows, text_columns=2)


def _ablation(strategy: str, meaning: str, places: Mapping[Place, Mapping[str, Summary]]) -> list[str]:
    errors = [row[strategy].error for row in places.values()]
    differences = distances_to_source(places, strategy)
    return [
        code(strategy),
        meaning,
        number(mean(errors)),
        *map(number, errors),
        points(differences[0].points) if differences else MISSING,
    ]
