"""Batch statistics of the request alone: prediction-time batch normalization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from adapters.normalization.linear import Linear, Weights


@dataclass(frozen=True)
class BN(Linear):
    """Normalize with the statistics of the request alone: ``mean = mean_B``, ``var = var_B`` (biased).

    What ``train()`` mode computes, without its side effects. Strong on large mixed-class requests, poor on small or
    one-class ones: a single image becomes instance normalization. Remembers nothing. Where a request shows a single
    value per channel there is no variance to see, and the trained statistics are used.

    Paper: Nado et al. 2020, "Evaluating Prediction-Time Batch Normalization for Robustness under Covariate Shift".
    """

    remembers: ClassVar[bool] = False

    def weights(self, images: int) -> Weights:
        """All weight on the request."""
        del images
        return Weights(own=1.0, remembered=0.0, trained=0.0, momentum=0.0)
