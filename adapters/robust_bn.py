"""Robust BN: RoTTA's normalization, without its memory and its teacher."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.base import Moments, Site, Statistics
from adapters.params import check, param


@dataclass(frozen=True)
class RobustBN:
    """Follow the stream by an exponential moving average and normalize with it: update, then use.

    ``G <- (1 - momentum) G + momentum batch`` for mean and biased variance, starting from the trained statistics;
    every request weighs the same whatever its size, as in the paper, so lower ``momentum`` for single images.

    Paper: Yuan, Xie and Li 2023, "Robust Test-Time Adaptation in Dynamic Scenarios" (RoTTA), section 3.2, equation 3.
    """

    momentum: float = param(0.05, "Weight of each request in the moving average.", above=0.0, high=1.0)

    def __post_init__(self) -> None:
        check(self)

    def init(self, site: Site) -> Statistics:
        """The trained statistics."""
        return Statistics(site.mean.clone(), site.var.clone())

    def step(self, site: Site, state: Statistics, seen: Moments) -> tuple[Statistics, Statistics]:
        """The moving average after this request; a single value per channel is answered, not learned from."""
        del site
        moved = state if seen.values < 2 else state.toward(seen.pooled(), self.momentum)
        return moved, moved
