"""IABN: the stream's statistics, corrected for each image where it differs by more than chance.

>>> site = Site("bn1", torch.zeros(1), torch.ones(1), torch.ones(1), torch.zeros(1), eps=0.0)
>>> image = Moments(torch.tensor([[2.0]]), torch.ones(1, 1), pixels=1024)  # mean 2, with a standard error of 1 / 32
>>> IABN(k=16.0).step(site, IABN().init(site), image)[0].mean
tensor([[1.5000]])
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from adapters.base import Adapter, Moments, Site, Statistics
from adapters.number import rate
from adapters.params import Checked, param


@dataclass(frozen=True)
class IABN(Checked, Adapter[Statistics]):
    """Normalize each image with the stream's statistics, moved toward its own by what exceeds their sampling noise.

    With m and v an image's mean and unbiased variance over its L positions and M and V the stream's,
    ``mean = M + S(m - M; k sqrt((V + eps) / L))`` and ``var = max(0, V + S(v - V; k (V + eps) sqrt(2 / (L - 1))))``,
    where ``S(d; t) = sign(d) max(0, |d| - t)``: an image within k standard errors gets the stream's statistics.
    Then ``M <- M + w (batch - M)`` and so for V (unbiased too), starting from the trained ones, with
    ``w = 1 - (1 - momentum) ** (n / reference_images)``. An image is answered before the update, and other images of
    its request do not change its answer. One value per image has no variance: such sites use the stream's statistics.

    The paper trains the network with this layer. In a network that was trained without it, as here, it is a weaker
    method: neighbouring positions are far from independent, so more images exceed k standard errors than should, and
    what the network reads from the contrast of whole images is normalized away. Hence the default k of 16: with the
    packaged CIFAR-10 network the paper's 4 had more errors, most of all on unchanged images.

    Paper: Gong et al. 2022, "NOTE: Robust Continual Test-time Adaptation Against Temporal Correlation" (NeurIPS 2022),
    section 3.1, without its memory and its learning.
    """

    batched: ClassVar[bool] = True

    k: float = param(16.0, "How many standard errors of an image's statistics count as chance.", low=0.0)
    momentum: float = param(0.1, "Weight of one request of reference_images images.", above=0.0, high=1.0)
    reference_images: int | None = param(
        32, "Request size at which the weight is momentum; null: every request weighs momentum.", low=1
    )

    def init(self, site: Site) -> Statistics:
        """Return the trained statistics."""
        return Statistics(site.mean.clone(), site.var.clone())

    def step(self, site: Site, state: Statistics, moments: Moments) -> tuple[Statistics, Statistics]:
        """Return the corrected statistics of each image, and the stream's after the request."""
        statistics = state if moments.pixels < 2 else self._corrected(state, moments, site.eps)
        if moments.values < 2:
            return statistics, state
        momentum = rate(self.momentum, moments.images, self.reference_images)
        return statistics, state.toward(moments.pooled(unbiased=True), momentum)

    def _corrected(self, state: Statistics, moments: Moments, eps: float) -> Statistics:
        """Return the corrected statistics of each image, ``[..., n, C]``."""
        mean, var, degrees = state.mean.unsqueeze(-2), state.var.unsqueeze(-2), moments.pixels - 1
        mean_error = ((var + eps) / moments.pixels).sqrt()
        var_error = (var + eps) * math.sqrt(2 / degrees)
        unbiased = moments.var * (moments.pixels / degrees)
        return Statistics(
            mean + _soft_threshold(moments.mean - mean, self.k * mean_error),
            (var + _soft_threshold(unbiased - var, self.k * var_error)).clamp_min(0.0),
        )


def _soft_threshold(difference: Tensor, threshold: Tensor) -> Tensor:
    """Return each difference moved toward zero by the threshold."""
    return difference - difference.clamp(-threshold, threshold)
