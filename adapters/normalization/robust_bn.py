"""Robust BN: RoTTA's normalization, without its memory and its teacher.

>>> RobustBN(momentum=0.25).weights(images=4)
Weights(own=0.25, remembered=0.75, trained=0.0, momentum=0.25, unbiased=False)
"""

from __future__ import annotations

from dataclasses import dataclass

from adapters.normalization.linear import Linear, Weights
from adapters.params import Checked, param


@dataclass(frozen=True)
class RobustBN(Checked, Linear):
    """Follow the stream by an exponential moving average and normalize with it: update, then use.

    ``G <- (1 - momentum) G + momentum batch`` for mean and biased variance, starting from the trained statistics;
    every request weighs the same whatever its size, as in the paper, so lower ``momentum`` for single images.

    Paper: Yuan, Xie and Li 2023, "Robust Test-Time Adaptation in Dynamic Scenarios" (RoTTA), section 3.2, equation 3.
    """

    momentum: float = param(0.05, "Weight of each request in the moving average.", above=0.0, high=1.0)

    def weights(self, images: int) -> Weights:
        """Return the weights of the moving average after the request."""
        del images
        return Weights(own=self.momentum, remembered=1.0 - self.momentum, trained=0.0, momentum=self.momentum)
