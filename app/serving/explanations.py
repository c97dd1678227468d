"""The explanation of a stream's next answer, for people and programs."""

from __future__ import annotations

from adapters import Explanation
from app.types import StreamExplanation


def explain_stream(explanation: Explanation) -> StreamExplanation:
    """Return an explanation as plain numbers, None where there is none."""
    leaning, evidence = explanation.leaning, explanation.evidence
    return StreamExplanation(
        words=explanation.in_words(),
        request=leaning and leaning.request,
        memory=leaning and leaning.memory,
        trained=leaning and leaning.trained,
        images=None if evidence is None else int(evidence.images),
        independence=None if evidence is None else float(evidence.independence),
        persistence=None if evidence is None else float(evidence.persistence),
        diversity=None if evidence is None else float(evidence.diversity),
        is_corrected=explanation.is_corrected,
    )
