"""Frozen statistics: normalize with a state and leave it unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adapters.base import AnyAdapter, Site
from adapters.evidence import Evidence
from adapters.normalization.linear import Linear, Weights, as_linear


@dataclass(frozen=True)
class Frozen(Linear):
    """Normalize with the statistics that a linear adapter remembers, without updating them.

    For learners that move the statistics themselves: RoTTA's teacher answers in evaluation mode. States are those of
    the adapter ``of``, which must be linear and remember.
    """

    of: Linear

    @property
    def linear(self) -> bool:
        """True if the adapter whose states it reads is linear."""
        return as_linear(self.of) is not None

    def weights(self, images: int) -> Weights:
        """Return all weight on the remembered statistics."""
        del images
        return Weights(own=0.0, remembered=1.0, trained=0.0, momentum=0.0)

    def leaning(self, site: Site, state: Any, evidence: Evidence | None) -> None:
        """Return None: how far the learner has moved the statistics is not known."""
        del site, state, evidence

    def init(self, site: Site) -> Any:
        """Return the adapter's state of a new stream."""
        return self.of.init(site)


def frozen(adapter: AnyAdapter) -> AnyAdapter:
    """Return the adapter with its state frozen if it is linear and remembers, otherwise the adapter itself."""
    linear = as_linear(adapter)
    return Frozen(linear) if linear is not None and linear.remembers else adapter
