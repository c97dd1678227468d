"""Means over protocols, for whoever does not know yet which of them is theirs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from results_plan import SHIFTED

from app.evaluation.measures import CLEAN, Place, Summary, mean

MEAN = "shifted"
"""The name of the mean over `SHIFTED` among protocols."""


def over_protocols(summaries: Iterable[Summary]) -> list[Summary]:
    """For each strategy, order and request size the mean over the shifted protocols; the clean ones as they are.

    A mean is there only where all of `SHIFTED` are, because one over fewer is another one.
    """
    groups: dict[tuple[str, Place], list[Summary]] = {}
    for one in summaries:
        if one.place.protocol in (*SHIFTED, CLEAN):
            protocol = CLEAN if one.place.protocol == CLEAN else MEAN
            groups.setdefault((one.strategy, one.place._replace(protocol=protocol)), []).append(one)
    wanted = {MEAN: len(SHIFTED), CLEAN: 1}
    whole = {key: own for key, own in groups.items() if len(own) == wanted[key[1].protocol]}
    return [_mean(place, own) for (_, place), own in whole.items()]


def _mean(place: Place, own: Sequence[Summary]) -> Summary:
    return replace(
        own[0],
        place=place,
        error=mean([one.error for one in own]),
        error_spread=math.nan,
        difference=mean([one.difference for one in own]),
        difference_spread=math.nan,
        ece=mean([one.ece for one in own]),
        domain_errors={},
        images_per_s=math.nan,
        state_bytes=max(one.state_bytes for one in own),
    )
