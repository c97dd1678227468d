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

from adapters.evidence import Evidence
from adapters.normalization.shrunk_averages import TINY, Levels, ShrunkAverages
from adapters.number import Number, log, maximum, minimum, numbers
from adapters.params import param

SINGLE_IMAGES = 3.0
"""Extra between-image variances by which the mean of a request of n images may lie off, divided by n: single images
differ from the average by one such variance already."""
CONTRAST = math.log(4.0)
"""Logarithm of the ratio by which the variance within images may change."""


@dataclass(frozen=True)
class Shrinkage(ShrunkAverages):
    """Choose online, for each stream and layer, how far to trust the stream's own statistics.

    The statistics are those of `james_stein`, with two things learned from the stream itself:

    - **How many images are independent.** The more a stream's answers show that classes are mixed, the more images
      count as independent, and the less of a shift is explained by chance: ``1 + 2 N a``, with N the images behind the
      averages and a the `independence` of the stream's evidence. That is 0 for a stream that shows few classes, or none
      but its first images, and near 1 where classes come in no order. Answers of the shrunk network are used, which do
      not break down where a camera shows one class for long.
    - **When the domain has changed.** Where the mean of a request has moved from the running mean by more than
      ``1 + 3 / n`` variances between images, or the variance within images by a factor of more than 4, the averages
      count as the fewer images, by the square of the excess (for the factor: of its squared logarithm), but as twice
      those of the request at least: so they follow a change within few requests and are steady otherwise.

    Paper: none; James and Stein 1961 for the estimator. The evidence and the alarm are Renorm's own, see docs/auto.md.
    """

    reads_evidence: ClassVar[bool] = True

    horizon: int = param(200, "Images that the averages look back on.", low=1)
    alarm: float = param(1.0, "Variances between images by which a mean may move before averages let go.", low=0.1)

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
