"""Running averages of a stream, shrunk toward the trained statistics as far as chance explains their difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from adapters.base import Moments, Site, Statistics
from adapters.evidence import Evidence
from adapters.explanation import Averages, Leaning
from adapters.joint import TINY, AnySite, JointAdapter, averages, expand, lerp, number
from adapters.number import Number, maximum, minimum, to_tensor
from adapters.params import Checked, param


class AveragesState(NamedTuple):
    """Running averages over a stream's images at one site, side by side, so that few operations move them."""

    averages: Tensor  # [..., 3, C] of the images' means, of their own variances, and the variance of their means
    images: Tensor  # [..., 1] the number of images behind them, at most the horizon
    contrast: Tensor  # [..., 2, 1] half the mean square of the difference in level from image to image, and the last
    # image's level: the logarithm of its variance, in trained variances. [..., 0, 1] where spreads are not read


@dataclass(frozen=True)
class ShrunkAverages(Checked, JointAdapter[AveragesState]):
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
        averages = torch.stack([site.mean, site.var, torch.zeros_like(site.mean)])
        contrast = site.mean.new_zeros(2 * self.reads_spread, 1)
        return AveragesState(averages, torch.zeros_like(site.mean[:1]), contrast)

    def adapts(self, site: Site) -> bool:
        """Return whether the site lies within the adapted depth."""
        return site.depth <= self.adapted_depth

    def foresee(self, site: AnySite, state: AveragesState, evidence: Evidence | None) -> Statistics:
        """Return the averages, shrunk."""
        mean, within, between = state.averages.unbind(-2)
        count = number(site, state.images)
        shift, spread = averages(site, torch.stack([(mean - site.mean).square(), between], -2))
        weight = self._weight(shift, spread, count, evidence)
        return Statistics(lerp(site, site.mean, mean, weight), lerp(site, site.var, within + between, weight))

    def learn(self, site: AnySite, state: AveragesState, moments: Moments) -> AveragesState:
        """Return the averages that a request has moved."""
        images = moments.images
        count = number(site, state.images)
        # Single images are most requests: a view is quicker than a mean of one.
        mean, within = (part[..., 0, :] if images == 1 else part.mean(-2) for part in moments[:2])
        old_mean, old_within, between = state.averages.unbind(-2)
        square = (mean - old_mean).square()
        levels = Levels(*averages(site, torch.stack([old_within, between, within, square], -2)))
        count = self._count(levels, count, images)
        share = images / count
        # The variance of means around the mean of all, by the law of total variance.
        target = square * (1.0 - expand(site, share))
        if images > 1:
            target = target + (moments.mean - mean.unsqueeze(-2)).square().mean(-2)
        new_averages = lerp(site, state.averages, torch.stack([mean, within, target], -2), share, rows=True)
        return AveragesState(new_averages, to_tensor(count, state.images), self._contrast(site, state, moments))

    def leaning(self, site: Site, state: AveragesState, evidence: Evidence | None) -> Leaning:
        """Return the weights of the next single image."""
        count = float(state.images)
        if site.depth > self.adapted_depth or not count:
            return Leaning(0.0, 0.0, 1.0)
        mean, _, between = state.averages
        shift, spread = averages(site, torch.stack([(mean - site.mean).square(), between]))
        weight = float(self._weight(shift, spread, count, evidence))
        # The bound counts those that evidence adds twice.
        independent = min(count, 0.5 * (self.independent_images + float(self._independent_images(count, evidence))))
        # Averages that count images as the base does never let go of older ones.
        horizon = None if type(self)._count is ShrunkAverages._count else float(self.horizon)
        return Leaning(0.0, weight, 1.0 - weight, Averages(count, independent, horizon))

    def _independent_images(self, count: Number, evidence: Evidence | None) -> Number:
        """Return the number of independent images that averages over ``count`` images count as."""
        del count, evidence
        return self.independent_images

    def _count(self, levels: Levels, count: Number, images: int) -> Number:
        """Return the images behind the averages after a request of so many, of ``count`` before it."""
        del levels
        return minimum(count, max(0.0, self.horizon - images)) + images

    def _contrast(self, site: AnySite, state: AveragesState, moments: Moments) -> Tensor:
        """Return `AveragesState.contrast` after a request."""
        del site, moments
        return state.contrast

    def _weight(self, shift: Number, between: Number, count: Number, evidence: Evidence | None) -> Number:
        """Return the weight of averages over ``count`` images, with these levels, against the trained statistics."""
        chance = count * between + self.prior_images * shift
        bound = self._independent_images(count, evidence) * maximum(count + (self.prior_images - 1.0), 1.0) * shift
        return maximum(1.0 - chance / maximum(bound, TINY), 0.0)


class Levels(NamedTuple):
    """Averages over the channels of a site, in trained variances."""

    within: Number  # of the variance within images, so far
    between: Number  # of the variance between images, so far
    new_within: Number  # of the variance within the request's images
    moved: Number  # of the square of the offset of the request's mean from the running one
