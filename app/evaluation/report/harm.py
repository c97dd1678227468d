"""Where a strategy is worse than the frozen model, in few lines."""

from __future__ import annotations

import math
from collections.abc import Sequence

from app.evaluation.metrics import CLEAN, SOURCE, Summary, worst
from app.evaluation.report.tables import Study, code, points

HURTS = 1.0
"""Points above the frozen model from which a place is listed."""

SHOWN = 6
"""Protocols and orders that are listed for a strategy; further ones are counted."""


def harm(study: Study) -> str:
    """A list: for each strategy the places where its error is more than `HURTS` points above the frozen model's.

    Places of one protocol and order are one item, clean streams first, then the worst.
    """
    lines: list[str] = []
    fine: list[str] = []
    unknown: list[str] = []
    for name, own in study.strategies.items():
        if name == SOURCE:
            continue
        known = [one for one in own if math.isfinite(one.difference)]
        hurt = [one for one in known if one.difference > HURTS]
        if hurt:
            lines.append(f"- {code(name)}: {_items(hurt, len(known))}\n")
        else:
            (fine if known else unknown).append(code(name))
    if fine:
        lines.append(f"- Nowhere by more than {HURTS:g} point: {', '.join(fine)}.\n")
    if unknown:
        lines.append(f"- Not known, because `{SOURCE}` was not run at the same places: {', '.join(unknown)}.\n")
    return "".join(lines)


def _items(hurt: Sequence[Summary], known: int) -> str:
    groups: dict[tuple[str, str], list[Summary]] = {}
    for one in hurt:
        groups.setdefault((one.place.protocol, one.place.order), []).append(one)

    def rank(item: tuple[tuple[str, str], list[Summary]]) -> tuple[bool, float]:
        return item[0][0] != CLEAN, -max(one.difference for one in item[1])

    ordered = sorted(groups.items(), key=rank)
    shown = [f"**{', '.join(location)}**, requests of {_sizes(own)}" for location, own in ordered[:SHOWN]]
    rest = len(ordered) - SHOWN
    more = f"; and {rest} more" if rest > 0 else ""
    most = worst(hurt)
    top = f" (worst {points(most.difference)})" if most is not None and len(hurt) > 1 else ""
    return f"{len(hurt)} of {known} places{top}: {'; '.join(shown)}{more}."


def _sizes(own: Sequence[Summary]) -> str:
    return ", ".join(f"{one.place.batch} ({points(one.difference)})" for one in own)
