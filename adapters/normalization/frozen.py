"""Frozen: what was remembered, without remembering more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adapters.base import Site
from adapters.normalization.linear import Linear, Weights, as_linear


@dataclass(frozen=True)
class Frozen(Linear):
    """Normalize with what a linear adapter remembers and leave it as it is.

    For learners that move the statistics themselves: RoTTA's teacher answers in evaluation mode. States are those of
    the adapter ``of``, which must be linear and remember.
    """

    of: Linear

    @property
    def linear(self) -> bool:
        """As linear as the adapter whose states it reads."""
        return as_linear(self.of) is not None

    def weights(self, images: int) -> Weights:
        """All weight on what is remembered."""
        del images
        return Weights(own=0.0, remembered=1.0, trained=0.0, momentum=0.0)

    def init(self, site: Site) -> Any:
        """What a new stream of the adapter remembers."""
        return self.of.init(site)


def frozen(adapter: Any) -> Any:
    """The adapter held still where that is possible, otherwise as it is."""
    linear = as_linear(adapter)
    return Frozen(linear) if linear is not None and linear.remembers else adapter
