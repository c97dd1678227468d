"""BN: batch statistics of the request alone, prediction-time batch normalization.

>>> BN().weights(images=4)
Weights(own=1.0, remembered=0.0, trained=0.0, momentum=0.0, unbiased=False)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from adapters.normalization.linear import Linear, Weights


@dataclass(frozen=True)
class BN(Linear):
    """Normalize with the statistics of the request alone: ``mean = mean_B``, ``var = var_B`` (biased).

    Equal to ``train()`` mode without its side effects. Strong on large mixed-class requests, poor on small or one-class
    ones: a single image becomes instance normalization. Remembers nothing. Where a request has a single value per
    channel, it has no variance, and the trained statistics are used.

    Paper: Nado et al. 2020, "Evaluating Prediction-Time Batch Normalization for Robustness under Covariate Shift".
    """

    remembers: ClassVar[bool] = False

    def weights(self, images: int) -> Weights:
        """Return all weight on the request."""
        del images
        return Weights(own=1.0, remembered=0.0, trained=0.0, momentum=0.0)
