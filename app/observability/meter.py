"""The meter interface: events that the engine reports to a counter."""

from __future__ import annotations

from typing import NamedTuple

from app.types import Origin, Timing


class ForwardEvent(NamedTuple):
    """One finished forward whose new states are committed: the requests and images that shared it, and its times."""

    requests: int
    images: int
    forward_s: float
    commit_s: float
    adapt_s: float | None = None  # the part of the forward spent on adaptation, None where unknown
    decode_s: float = 0.0  # from the arrival of each request until its images were decoded, all together


class Meter:
    """A receiver of the engine's events; this base class ignores all of them.

    Every method returns at once, and is called on the event loop's thread.
    """

    def record_answer(self, strategy: str, images: int, timing: Timing) -> None:
        """Count an answered request."""

    def record_origin(self, origin: Origin) -> None:
        """Count the origin of the state that an answered request used."""

    def record_failure(self, kind: str) -> None:
        """Count a request that was refused or failed; ``kind`` is the name of the exception's class."""

    def record_forward(self, forward: ForwardEvent) -> None:
        """Record a forward whose new states are committed."""

    def record_lessons(self, streams: int, lesson_s: float) -> None:
        """Record a learning step of ``streams`` streams from answered requests, which took ``lesson_s``."""

    def record_rejection(self, reason: str) -> None:
        """Count a new state that was not committed; ``reason`` is one word, such as ``not_finite``."""
