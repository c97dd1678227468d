"""James-Stein shrinkage: a stream's statistics, drawn to the trained ones as far as chance explains the difference.

>>> site = Site("bn1", torch.zeros(2), torch.ones(2), torch.ones(2), torch.zeros(2), eps=0.0)
>>> images = Moments(torch.tensor([[2.9, 0.0], [3.1, 0.0]]), torch.ones(2, 2), pixels=64)
>>> adapter = JamesStein(prior_images=0)
>>> adapter.step(site, adapter.init(site), images)[0].mean  # images alike, far from training: little is chance
tensor([2.9933, 0.0000])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from adapters.base import Adapter, Moments, Site, Statistics
from adapters.params import Checked, param

TINY = 1e-12
"""Shift, in trained variances, below which there is none."""


class ShrinkageState(NamedTuple):
    """Running averages over a stream's images at one site."""

    mean: Tensor  # [..., C]
    within: Tensor  # [..., C] the average of the images' own variances
    between: Tensor  # [..., C] the variance of the images' means
    images: Tensor  # [..., 1] the number of images behind them, at most the horizon


@dataclass(frozen=True)
class JamesStein(Checked, Adapter[ShrinkageState]):
    """Normalize with running averages that are shrunk toward the trained statistics by what chance explains.

    With M the running mean of the images' means, W that of their variances and B the variance of their means, the
    squared shift at a site is ``D = mean_c (M - mean_s)^2 / var_s``, and ``E = mean_c B / var_s / independent_images``
    is the squared shift that so many independent images show by chance. The weight of the trained statistics is
    ``w = min(1, E / D)``, the positive-part estimator of James and Stein; the request is normalized with
    ``mean_s + (1 - w) (M - mean_s)`` and ``var_s + (1 - w) (W + B - var_s)``. Averages are over all images of the
    stream, its request included, then over ``horizon`` images. ``prior_images`` images that showed D as their variance
    are added to B, so that a new stream starts from the trained statistics.

    How many images are independent cannot be known where a camera shows one class for long: the look of that class and
    a shift are one thing to these averages. By default it is 1: what one image of a clean stream could show by chance
    is never adapted to, whatever classes are shown and for how long; severe shifts, many times as large, are.
    Sites beyond ``adapted_depth`` keep the trained statistics, because means differ by class there most of all; so do
    sites with one value per image, which have no variance.

    Papers: James and Stein 1961, "Estimation with Quadratic Loss", section 2, for the estimator; Schneider et al. 2020,
    "Improving robustness against common corruptions by covariate shift adaptation", section 3, shrink by a fixed number
    of images.
    """

    batched: ClassVar[bool] = True

    independent_images: float = param(1.0, "Number of independent images that the averages count as.", low=1.0)
    horizon: int = param(300, "Images that the averages look back on.", low=1)
    prior_images: int = param(4, "Images with the shift as their variance that a new stream starts with.", low=0)
    adapted_depth: float = param(
        0.85, "Depth in the network up to which sites adapt, from 0, the first, to 1, the last.", low=0.0, high=1.0
    )

    def init(self, site: Site) -> ShrinkageState:
        """Return averages of no images."""
        zeros = torch.zeros_like(site.mean)
        return ShrinkageState(site.mean.clone(), site.var.clone(), zeros, zeros[:1].clone())

    def step(self, site: Site, state: ShrinkageState, moments: Moments) -> tuple[Statistics, ShrinkageState]:
        """Return the shrunk statistics, this request included, and the averages after it."""
        if site.depth > self.adapted_depth or moments.pixels < 2:
            return site.trained, state
        new_state = self._average(state, moments)
        scale = site.var + site.eps
        shift = ((new_state.mean - site.mean).square() / scale).mean(-1, keepdim=True)
        spread = (new_state.between / scale).mean(-1, keepdim=True)
        count = new_state.images
        chance = (spread * count + self.prior_images * shift) / (count - 1 + self.prior_images).clamp_min(1.0)
        weight = 1.0 - (chance / (self.independent_images * shift).clamp_min(TINY)).clamp(max=1.0)
        return site.trained.toward(Statistics(new_state.mean, new_state.within + new_state.between), weight), new_state

    def _average(self, state: ShrinkageState, moments: Moments) -> ShrinkageState:
        images = moments.images
        count = state.images.clamp(max=max(0, self.horizon - images)) + images
        share = images / count
        mean = moments.mean.mean(-2)
        spread = (moments.mean - mean.unsqueeze(-2)).square().mean(-2)
        moved = mean - state.mean
        return ShrinkageState(
            state.mean + share * moved,
            state.within + share * (moments.var.mean(-2) - state.within),
            (1 - share) * state.between + share * spread + share * (1 - share) * moved.square(),
            count,
        )
