"""The explanation of a stream's next answer, for people and programs."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from adapters import AdaptiveModel, Explanation, Key, Memory
from app.types import StreamExplanation, StreamInfo

log = logging.getLogger("renorm")

PAUSE_S = 0.001
"""Seconds between the explanations of two states, in which the model's thread gets on."""


def explain_state(model: AdaptiveModel, key: Key, memory: Memory, info: StreamInfo) -> StreamInfo:
    """Return the description of a state with its explanation."""
    return replace(info, explanation=explain_stream(model.explain(key, memory)))


def explain_sample(
    model: AdaptiveModel, states: Sequence[tuple[Key, Memory, str]]
) -> Callable[[], list[tuple[str, StreamExplanation]]]:
    """Return a function, for another thread, that explains states that nothing writes to, each under its name."""

    def explain() -> list[tuple[str, StreamExplanation]]:
        explanations = []
        for key, memory, name in states:
            try:
                explanations.append((name, explain_stream(model.explain(key, memory))))
            except Exception:
                # A plugin's mistake must not cost the operator all other metrics.
                log.exception("a state of strategy '%s' cannot be explained", name)
            time.sleep(PAUSE_S)
        return explanations

    return explain


def explain_stream(explanation: Explanation) -> StreamExplanation:
    """Return an explanation as plain numbers, None where there is none or it is not finite."""
    leaning, evidence, alarm = explanation.leaning, explanation.evidence, explanation.alarm
    averages = leaning and leaning.averages
    return StreamExplanation(
        words=explanation.in_words(),
        request=_number(leaning and leaning.request),
        memory=_number(leaning and leaning.memory),
        trained=_number(leaning and leaning.trained),
        averaged_images=_number(averages and averages.images),
        independent_images=_number(averages and averages.independent),
        changed_layers=_number(alarm and alarm.layers),
        change_alarm=alarm and alarm.is_raised,
        is_mixture=explanation.is_mixture,
        images=None if evidence is None else int(evidence.images),
        independence=_number(evidence and evidence.independence),
        persistence=_number(evidence and evidence.persistence),
        diversity=_number(evidence and evidence.diversity),
        is_corrected=explanation.is_corrected,
        corrector=", ".join(part.name for part in explanation.corrections if part.is_active) or None,
    )


def _number(value: float | Tensor | None) -> float | None:
    """Return a number with the digits that mean something."""
    if value is None or not math.isfinite(number := float(value)):
        return None
    return float(f"{number:.4g}")
