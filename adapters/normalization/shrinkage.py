"""Shrinkage by evidence: a stream's statistics are trusted as far as its earlier answers say they can be.

>>> site = Site("bn1", torch.zeros(2), torch.ones(2), torch.ones(2), torch.zeros(2), eps=0.0)
>>> from adapters.evidence import new_evidence
>>> evidence = new_evidence()._replace(independence=torch.tensor([0.9]))  # classes that come in no order
>>> images = Moments(torch.tensor([[0.5, 0.0], [-0.1, 0.4]]), torch.ones(2, 2), 64, evidence)
>>> adapter = Shrinkage(prior_images=0)
>>> both = [adapter.step(site, adapter.init(site), images._replace(evidence=e)) for e in (None, evidence)]
>>> [round(float(statistics.mean[0]), 4) for statistics, _ in both]
[0.0, 0.0587]
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adapters.base import Moments, Site, Statistics
from adapters.evidence import Evidence
from adapters.explanation import Leaning
from adapters.joint import TINY, AnySite, JointSite, average_rows, number
from adapters.normalization.shrunk_averages import AveragesState, Levels, ShrunkAverages
from adapters.number import Number, log, maximum, minimum, numbers
from adapters.params import param

SINGLE_IMAGES = 3.0
"""Extra between-image variances by which the mean of a request of n images may lie off, divided by n: single images
differ from the average by one such variance already."""
SINGLE_DOMAIN = 0.2
"""Variances of the contrast of what images show below which a mixture is over."""
FEWEST_IMAGES = 32
"""Images that the contrast is averaged over at least: where averages let go, it is not known less well."""
LARGEST_SQUARE = 4.0
"""Variances of the contrast of what images show that a difference adds at most: a black frame makes no mixture."""
CONTRAST = math.log(4.0)
"""Logarithm of the ratio by which the variance within images may change."""


@dataclass(frozen=True)
class Shrinkage(ShrunkAverages):
    """Choose online, for each stream and layer, how far to trust the stream's own statistics.

    The statistics are those of `james_stein`, with three things learned from the stream itself:

    - **How many images are independent.** The more a stream's answers show that classes are mixed, the more images
      count as independent, and the less of a shift is explained by chance: ``1 + 2 N a``, with N the images behind the
      averages and a the `independence` of the stream's evidence. That is 0 for a stream that shows few classes, or none
      but its first images, and near 1 where classes come in no order. Answers of the shrunk network are used, which do
      not break down where a camera shows one class for long.
    - **When the domain has changed.** Where the mean of a request has moved from the running mean by more than
      ``1 + 3 / n`` variances between images, or the variance within images by a factor of more than 4, the averages
      count as the fewer images, by the square of the excess (for the factor: of its squared logarithm), but as twice
      those of the request at least: so they follow a change within few requests and are steady otherwise.
    - **Whether domains are mixed**, image by image: the averages are those of none of them then. With w the mean over
      the channels of an image's variance in trained variances, half the mean square of the difference of ``log w`` from
      image to image is its variance where images come in no order. Domains are mixed where it is more than ``mixture``
      times what content explains, their `Site.contrast_spread`, at half of the layers; until it is less than 0.2
      times. A square counts as four times that at most, so that neither a change of domain nor a black frame is a
      mixture. The averages have ``a`` times their weight then, as they may be of few classes, and an image with
      ``d = mean_c (m - mean)^2 / var_s`` is drawn from what they give to its own, in mean and variance, by
      ``max(0, 1 - s / d)``, with s the `Site.spread`: by what content does not explain.

    Paper: none; James and Stein 1961 for the estimator. Evidence, alarm and mixture are Renorm's own, see docs/auto.md.
    """

    reads_evidence: ClassVar[bool] = True
    reads_spread: ClassVar[bool] = True

    horizon: int = param(200, "Images that the averages look back on.", low=1)
    mixture: float = param(
        0.4, "Times that contrast may differ by what content explains before domains count as mixed.", low=0.0
    )
    alarm: float = param(1.0, "Variances between images by which a mean may move before averages let go.", low=0.1)

    def find_mixture(self, site: JointSite, state: AveragesState, mixture: Tensor) -> Tensor:
        """Return whether domains are mixed: content does not explain at half of the layers how contrast differs."""
        is_measured = site.contrast_spread.isfinite()
        if not bool(is_measured.any()):
            return torch.zeros_like(mixture)
        ratios = state.contrast[..., 0, is_measured] / site.contrast_spread[is_measured]
        level = ratios.quantile(0.5, -1, keepdim=True)
        # Images that are normalized by themselves differ less in the layers behind.
        is_mixed = (level > self.mixture) | ((level > SINGLE_DOMAIN) & (mixture > 0.0))
        return is_mixed.to(mixture)

    def own_weight(self, evidence: Evidence | None) -> Number:
        """Return 1 where domains are mixed, otherwise 0."""
        return 0.0 if evidence is None else numbers(evidence.mixture)[0]

    def refine(self, site: Site, statistics: Statistics, weight: Number, moments: Moments) -> Statistics:
        """Return the statistics of each image, drawn to its own by what its content does not explain."""
        if math.isinf(site.spread):
            return statistics
        mean, var = (part.unsqueeze(-2) for part in statistics)
        distance = (moments.mean - mean).square() @ site.precision.unsqueeze(-1)
        weight = weight.unsqueeze(-1) if isinstance(weight, Tensor) else weight
        shares = weight * (1.0 - site.spread / distance.clamp_min(TINY)).clamp_min(0.0)
        return Statistics(torch.lerp(mean, moments.mean, shares), torch.lerp(var, moments.var, shares))

    def leaning(self, site: Site, state: AveragesState, evidence: Evidence | None) -> Leaning:
        """Return the weights of an image that lies as far from the trained statistics as images do on the mean."""
        leaning, weight = super().leaning(site, state, evidence), float(self.own_weight(evidence))
        if not weight or leaning.averages is None:
            return leaning
        mean, _, between = state.averages
        distance = float(((mean - site.mean).square() + between) @ site.precision)
        share = weight * max(0.0, 1.0 - site.spread / max(distance, TINY))
        remainder = 1.0 - share
        return leaning._replace(request=share, memory=leaning.memory * remainder, trained=leaning.trained * remainder)

    def _weight(self, shift: Number, between: Number, count: Number, evidence: Evidence | None) -> Number:
        weight = super()._weight(shift, between, count, evidence)
        if evidence is None:
            return weight
        independence, mixture = (numbers(part)[0] for part in (evidence.independence, evidence.mixture))
        return weight * (1.0 - mixture * (1.0 - independence))

    def _contrast(self, site: AnySite, state: AveragesState, moments: Moments) -> Tensor:
        contrast, level = state.contrast.unbind(-2)
        levels = average_rows(site, moments.var).clamp_min(TINY).log()
        squares = 0.5 * levels.diff(dim=-2, prepend=level.unsqueeze(-2)).square()
        squares = squares.clamp(max=LARGEST_SQUARE * site.contrast_spread)
        count = number(site, state.images)
        looked_back = maximum(minimum(count, max(0.0, self.horizon - moments.images)) + moments.images, FEWEST_IMAGES)
        share = minimum(moments.images / looked_back, 1.0)
        return torch.stack([torch.lerp(contrast, squares.mean(-2), share), levels[..., -1, :]], -2)

    def _independent_images(self, count: Number, evidence: Evidence | None) -> Number:
        if evidence is None:
            return self.independent_images
        (independence,) = numbers(evidence.independence)
        return self.independent_images + 2.0 * count * independence

    def _count(self, levels: Levels, count: Number, images: int) -> Number:
        usual_count = super()._count(levels, count, images)
        excess = levels.moved / maximum((self.alarm + SINGLE_IMAGES / images) * levels.between, TINY)
        ratio = log(maximum(levels.new_within, TINY) / maximum(levels.within, TINY))
        surprise = maximum(maximum(excess, ratio * ratio / (self.alarm * CONTRAST**2)), 1.0)
        return maximum(usual_count / (surprise * surprise), minimum(usual_count, 2.0 * images))
