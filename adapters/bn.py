"""Batch statistics of the request alone: prediction-time batch normalization."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.base import Moments, Nothing, Site, Statistics


@dataclass(frozen=True)
class BN:
    """Normalize with the statistics of the request alone: ``mean = mean_B``, ``var = var_B`` (biased).

    What ``train()`` mode computes, without its side effects. Strong on large mixed-class requests, poor on small or
    one-class ones: a single image becomes instance normalization. Remembers nothing. Where a request shows a single
    value per channel there is no variance to see, and the trained statistics are used.

    Paper: Nado et al. 2020, "Evaluating Prediction-Time Batch Normalization for Robustness under Covariate Shift".
    """

    def init(self, site: Site) -> Nothing:
        """Nothing to remember."""
        del site
        return Nothing()

    def step(self, site: Site, state: Nothing, seen: Moments) -> tuple[Statistics, Nothing]:
        """The pooled statistics of the request."""
        return (site.trained if seen.values < 2 else seen.pooled()), state
