"""The conditions in which a strategy is worse than the frozen model, in few lines."""

from __future__ import annotations

import math
from collections.abc import Sequence

from app.evaluation.metrics import CLEAN, SOURCE, Summary, worst
from app.evaluation.report.tables import Study, code, points

HARM_THRESHOLD = 1.0
"""Points above the frozen model from which a place is listed."""

LISTED = 6
"""Protocols and orders that are listed for a strategy; further ones are counted."""


def harm(study: Study) -> str:
    """List for each strategy the places with an error more than `HARM_THRESHOLD` points above the frozen model.

    Places of one protocol and order are one item, clean streams first, then the worst.
    """
    lines: list[str] = []
    fine: list[str] = []
    unknown: list[str] = []
    for name, summaries in study.strategies.items():
        if name == SOURCE:
            continue
        comparable = [summary for summary in summaries if math.isfinite(summary.difference)]
        hurt = [summary for summary in comparable if summary.difference > HARM_THRESHOLD]
        if hurt:
            lines.append(f"- {code(name)}: {_items(hurt, len(comparable))}\n")
        else:
            (fine if comparable else unknown).append(code(name))
    if fine:
        lines.append(f"- Nowhere by more than {HARM_THRESHOLD:g} point: {', '.join(fine)}.\n")
    if unknown:
        lines.append(f"- Unknown, because `{SOURCE}` was not run at the same places: {', '.join(unknown)}.\n")
    return "".join(lines)


def _items(hurt: Sequence[Summary], count: int) -> str:
    groups: dict[tuple[str, str], list[Summary]] = {}
    for summary in hurt:
        groups.setdefault((summary.place.protocol, summary.place.order), []).append(summary)

    def rank(item: tuple[tuple[str, str], list[Summary]]) -> tuple[bool, float]:
        return item[0][0] != CLEAN, -max(summary.difference for summary in item[1])

    ordered = sorted(groups.items(), key=rank)
    items = [f"**{', '.join(location)}**, requests of {_sizes(summaries)}" for location, summaries in ordered[:LISTED]]
    remaining = len(ordered) - LISTED
    ending = f"; and {remaining} more" if remaining > 0 else ""
    hardest = worst(hurt)
    top = f" (worst {points(hardest.difference)})" if hardest is not None and len(hurt) > 1 else ""
    return f"{len(hurt)} of {count} places{top}: {'; '.join(items)}{ending}."


def _sizes(summaries: Sequence[Summary]) -> str:
    return ", ".join(f"{summary.place.batch} ({points(summary.difference)})" for summary in summaries)
