"""Running averages of a stream, shrunk toward the trained statistics as far as chance explains their difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from adapters.base import Adapter, Moments, Site, Statistics
from adapters.params import Checked, param

TINY = 1e-12
"""Shift, in trained variances, below which there is none."""


class AveragesState(NamedTuple):
    """Running averages over a stream's images at one site."""

    mean: Tensor  # [..., C]
    within: Tensor  # [..., C] the average of the images' own variances
    between: Tensor  # [..., C] the variance of the images' means
    images: Tensor  # [..., 1] the number of images behind them, at most the horizon


@dataclass(frozen=True)
class ShrunkAverages(Checked, Adapter[AveragesState]):
    """Base of adapters that shrink: what `james_stein` does, where a subclass counts images in another way."""

    batched: ClassVar[bool] = True

    independent_images: float = param(1.0, "Number of independent images that the averages count as.", low=1.0)
    horizon: int = param(300, "Images that the averages look back on.", low=1)
    prior_images: int = param(4, "Images with the shift as their variance that a new stream starts with.", low=0)
    adapted_depth: float = param(
        0.85, "Depth in the network up to which sites adapt, from 0, the first, to 1, the last.", low=0.0, high=1.0
    )

    def init(self, site: Site) -> AveragesState:
        """Return averages of no images."""
        zeros = torch.zeros_like(site.mean)
        return AveragesState(site.mean.clone(), site.var.clone(), zeros, zeros[:1].clone())

    def step(self, site: Site, state: AveragesState, moments: Moments) -> tuple[Statistics, AveragesState]:
        """Return the shrunk statistics, this request included, and the averages after it."""
        if site.depth > self.adapted_depth or moments.pixels < 2:
            return site.trained, state
        new_state = self._average(site, state, moments)
        offset, count = new_state.mean - site.mean, new_state.images
        shift, spread = mean_square(site, offset), average(site, new_state.between)
        chance = torch.addcmul(self.prior_images * shift, spread, count) / (count + (self.prior_images - 1)).clamp_min(
            1
        )
        independent = self._independent_images(new_state, moments) * shift
        weight = 1.0 - (chance / independent.clamp_min(TINY)).clamp_max(1.0)
        mean = torch.addcmul(site.mean, weight, offset)
        return Statistics(mean, torch.lerp(site.var, new_state.within + new_state.between, weight)), new_state

    def _independent_images(self, state: AveragesState, moments: Moments) -> Tensor | float:
        """Return the number of independent images that the averages count as."""
        del state, moments
        return self.independent_images

    def _count(self, site: Site, state: AveragesState, request: Statistics, moments: Moments) -> Tensor:
        """Return the images behind the averages after a request with that mean and variance within its images."""
        del site, request
        return state.images.clamp_max(max(0, self.horizon - moments.images)) + moments.images

    def _average(self, site: Site, state: AveragesState, moments: Moments) -> AveragesState:
        images, request = moments.images, Statistics(moments.mean.mean(-2), moments.var.mean(-2))
        count = self._count(site, state, request, moments)
        share, moved = images / count, request.mean - state.mean
        between = torch.addcmul(state.between, share, moved.square()) * (1.0 - share)
        if images > 1:
            spread = (moments.mean - request.mean.unsqueeze(-2)).square().mean(-2)
            between = torch.addcmul(between, share, spread)
        mean, within = torch.addcmul(state.mean, share, moved), torch.lerp(state.within, request.var, share)
        return AveragesState(mean, within, between, count)


def average(site: Site, squares: Tensor) -> Tensor:
    """Return the average over channels ``[..., 1]`` of squares ``[..., C]`` in units of the trained variances."""
    return (squares @ site.precision).unsqueeze(-1) / site.channels


def mean_square(site: Site, offset: Tensor) -> Tensor:
    """Return the mean square over channels ``[..., 1]`` of offsets ``[..., C]`` in trained deviations."""
    return average(site, offset.square())
