"""The short table at the end of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.cli.tables import show

if TYPE_CHECKING:
    from app.evaluation.metrics import Summary
    from app.evaluation.types import Result

_HEADERS = ["strategy", "error %", "to source", "clean", "worst", "where", "images/s"]


def show_summary(results: Sequence[Result]) -> None:
    """Print a row per strategy: means over settings, the change on clean images, and the worst setting."""
    from app.evaluation.metrics import measure_all, summarize
    from app.evaluation.report.tables import Study

    strategies = Study(summarize(measure_all(results)), ()).strategies
    rows = [_row(strategy, summaries) for strategy, summaries in strategies.items()]
    show("Mean error over all shifted streams", _HEADERS, rows, right=[1, 2, 3, 4, 6])


def _row(strategy: str, summaries: Sequence[Summary]) -> list[str]:
    from app.evaluation.metrics import CLEAN, SOURCE, mean, worst

    shifted = [summary for summary in summaries if summary.place.protocol != CLEAN]
    clean = [summary.difference for summary in summaries if summary.place.protocol == CLEAN]
    worst_place = None if strategy == SOURCE else worst(summaries)
    speeds = [summary.images_per_s for summary in summaries if math.isfinite(summary.images_per_s)]
    return [
        strategy,
        _number(mean([summary.error for summary in shifted])),
        _number(mean([summary.difference for summary in shifted]), signed=True),
        _number(mean(clean), signed=True),
        "-" if worst_place is None else _number(worst_place.difference, signed=True),
        "" if worst_place is None else str(worst_place.place),
        f"{min(speeds):,.0f} - {max(speeds):,.0f}" if speeds else "-",
    ]


def _number(value: float, *, signed: bool = False) -> str:
    return f"{value:{'+' if signed else ''}.1f}" if math.isfinite(value) else "-"
