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
    """One row for each strategy: means over places, what it does to clean images, and the place where it is worst."""
    from app.evaluation.metrics import measure_all, summarize

    found: dict[str, list[Summary]] = {}
    for one in summarize(measure_all(results)):
        found.setdefault(one.strategy, []).append(one)
    rows = [_row(strategy, own) for strategy, own in found.items()]
    show("Means over all places but the clean ones", _HEADERS, rows, right=[1, 2, 3, 4, 6])


def _row(strategy: str, own: Sequence[Summary]) -> list[str]:
    from app.evaluation.metrics import CLEAN, SOURCE, mean, worst

    shifted = [one for one in own if one.place.protocol != CLEAN]
    clean = [one.difference for one in own if one.place.protocol == CLEAN]
    most = None if strategy == SOURCE else worst(own)
    speeds = [one.images_per_s for one in own if math.isfinite(one.images_per_s)]
    return [
        strategy,
        _number(mean([one.error for one in shifted])),
        _number(mean([one.difference for one in shifted]), signed=True),
        _number(mean(clean), signed=True),
        "-" if most is None else _number(most.difference, signed=True),
        "" if most is None else str(most.place),
        f"{min(speeds):,.0f} - {max(speeds):,.0f}" if speeds else "-",
    ]


def _number(value: float, *, signed: bool = False) -> str:
    return f"{value:{'+' if signed else ''}.1f}" if math.isfinite(value) else "-"
