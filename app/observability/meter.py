"""What the engine tells of its work, for whoever counts it."""

from __future__ import annotations

from typing import Protocol

from app.types import Origin, Timing


class Meter(Protocol):
    """What the engine tells while it works. Every call is quick, and made on the event loop's thread."""

    def answered(self, strategy: str, images: int, timing: Timing) -> None:
        """A request was answered."""

    def found(self, origin: Origin) -> None:
        """An answered request found its stream like that."""

    def failed(self, kind: str) -> None:
        """A request was refused or failed; ``kind`` is the name of the exception's class."""

    def forward(
        self, requests: int, images: int, forward_s: float, commit_s: float, adapt_s: float | None = None
    ) -> None:
        """A forward of that many requests is through, and the states that it made are committed.

        ``adapt_s`` is what adapting took of it, None where that is not known.
        """

    def lessons(self, streams: int, lesson_s: float) -> None:
        """That many streams have learned from answered requests together; ``lesson_s`` is how long it took."""

    def rejected(self, reason: str) -> None:
        """A request's new state was not committed; ``reason`` is one word, such as ``not_finite``."""


class Silent:
    """The `Meter` of an engine that nobody watches."""

    def answered(self, strategy: str, images: int, timing: Timing) -> None:
        """Nothing."""

    def found(self, origin: Origin) -> None:
        """Nothing."""

    def failed(self, kind: str) -> None:
        """Nothing."""

    def forward(
        self, requests: int, images: int, forward_s: float, commit_s: float, adapt_s: float | None = None
    ) -> None:
        """Nothing."""

    def lessons(self, streams: int, lesson_s: float) -> None:
        """Nothing."""

    def rejected(self, reason: str) -> None:
        """Nothing."""
