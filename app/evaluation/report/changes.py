"""The table of recovery after changes of domain, and of first and last visits."""

from __future__ import annotations

import math

from app.evaluation.recovery import TOLERANCE, WINDOW
from app.evaluation.report.tables import Study, code, markdown, number

_HEADERS = ("strategy", "protocol", "order", "requests of", "recovery, images", "90 %")
_VISITS = ("first visit, error %", "last visit")


def after_changes(study: Study) -> tuple[str, str]:
    """Return a caption and a table with a row for each place where a strategy met changes; both empty without any."""
    summaries = [summary for summary in study.summaries if any(map(math.isfinite, summary.changes))]
    if not summaries:
        return "", ""
    has_visits = any(math.isfinite(summary.changes.first_visit) for summary in summaries)
    places = {place: i for i, place in enumerate(study.places)}
    rows = [
        [
            code(summary.strategy),
            summary.place.protocol,
            summary.place.order,
            str(summary.place.batch),
            *(number(value, 0) for value in summary.changes[:2]),
            *(number(value) for value in summary.changes[2:] if has_visits),
        ]
        for summary in sorted(summaries, key=lambda summary: places[summary.place])
    ]
    return _caption(has_visits), markdown([*_HEADERS, *(_VISITS if has_visits else ())], rows, 3)


def _caption(has_visits: bool) -> str:
    visits = " Visits show the same images, so their errors differ by adaptation alone." if has_visits else ""
    return (
        f"Images after a change until the error of the next {WINDOW} images is within {100 * TOLERANCE:g} points of "
        "the best that the strategy keeps over half of the images of a domain: mean and 90 % quantile over changes, "
        f"then means over seeds. Chance alone gives the figures of `source`, which does not adapt.{visits}\n"
    )
