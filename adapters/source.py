"""Source: the frozen network, unchanged."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.base import Moments, Nothing, Site, Statistics


@dataclass(frozen=True)
class Source:
    """No adaptation: every image is normalized with the statistics of the training data.

    Equal to ``model.eval()``, and the baseline of every comparison. Remembers nothing.
    """

    def init(self, site: Site) -> Nothing:
        """Nothing to remember."""
        del site
        return Nothing()

    def step(self, site: Site, state: Nothing, seen: Moments) -> tuple[Statistics, Nothing]:
        """The trained statistics, whatever was seen."""
        del seen
        return site.trained, state
