"""Explanations: what the next answer of a stream leans on, as numbers and in words."""

from __future__ import annotations

from typing import NamedTuple

from adapters.evidence import Evidence


class Leaning(NamedTuple):
    """The weights of what the next single image of a stream is normalized with; they sum up to 1.

    >>> Leaning(request=0.1, memory=0.7, trained=0.2).memory
    0.7
    """

    request: float  # the image's own statistics
    memory: float  # what the stream remembers
    trained: float  # the statistics of the training data


class Explanation(NamedTuple):
    """The reasons for the next answer of a stream.

    >>> print(Explanation(Leaning(0.01, 0.79, 0.2), None, is_corrected=True).in_words())
    normalized with 20 % trained statistics, 79 % the stream's and 1 % the image's own; answers are corrected
    """

    leaning: Leaning | None  # mean over the layers; None where a strategy has no such weights
    evidence: Evidence | None  # of a strategy that reads it
    is_corrected: bool | None  # whether a corrector changes answers now; None without one that can tell

    def in_words(self) -> str:
        """Return the explanation as a sentence without a full stop."""
        parts = []
        if self.leaning is not None:
            request, memory, trained = (f"{100 * weight:.0f} %" for weight in self.leaning)
            parts.append(
                f"normalized with {trained} trained statistics, {memory} the stream's and {request} the image's own"
            )
        if self.evidence is not None:
            parts.append(_evidence_in_words(self.evidence))
        if self.is_corrected is not None:
            parts.append("answers are corrected" if self.is_corrected else "answers are not corrected")
        return "; ".join(parts) or "the strategy does not say what its answers lean on"


def _evidence_in_words(evidence: Evidence) -> str:
    images, independence, persistence, diversity, _ = (float(field) for field in evidence)
    if not images:
        return "too few answers yet to say how many images are independent, so all count as one"
    start = f"the last {images:.0f} answers show a class diversity of {100 * diversity:.0f} %"
    if not independence:
        return f"{start}: too few classes to tell them from a shift, so all images count as one"
    share = f"{100 * independence:.0f} % count as independent"
    return f"{start}, one image of {persistence:.1f} brings news of the class: {share}"
