"""TEMA: a moving average in which large requests count for more than in proportion to their size.

>>> [round(Tema().momentum(images), 3) for images in (1, 4, 16, 32, 64)]
[0.01, 0.1, 0.1, 0.316, 1.0]
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from adapters.normalization.linear import Linear, Weights
from adapters.params import Checked, param

SIZES = {"cifar": (2, 4, 16, 64), "imagenet": (4, 16, 64, 200)}
"""The sizes at which the paper's table changes: the last small, the first and last medium, the first large one."""


@dataclass(frozen=True)
class Tema(Checked, Linear):
    """Follow the stream by a moving average whose weight depends on the request's size alone: update, then use.

    ``E <- E + p (batch - E)`` for mean and biased variance, starting from the trained ones. The paper's table, as its
    code publishes it, has the momentum p ``small`` (0.01) for requests of 1 or 2 images, ``medium`` (0.1) for 4 and 16
    and ``large`` (1: the request alone) for 64 and 200, with small images (``sizes="cifar"``); with large ones
    (``"imagenet"``) it is small up to 4 images, medium at 16 and 64, large at 200. Between the sizes of the table p
    is interpolated, log p in log n, so that it meets every entry and one more image never makes a jump; below and
    above them it stays.

    Of the paper's method this is the average only. Its weight of the trained statistics, chosen layer by layer, needs
    the divergences of all layers at once, in a second forward, where a site knows only itself; and its average
    starts from mean 0 and variance 1, which is harmless only beside that weight or where p is 1.

    Paper: Su et al. 2024, "Unraveling Batch Normalization for Realistic Test-Time Adaptation" (AAAI 2024).
    """

    small: float = param(0.01, "Weight of a small request, as of 1 or 2 images.", above=0.0, high=1.0)
    medium: float = param(0.1, "Weight of a medium request, as of 4 to 16 images.", above=0.0, high=1.0)
    large: float = param(1.0, "Weight of a large request, as of 64 images or more.", above=0.0, high=1.0)
    sizes: str = param("cifar", "Which requests are small, medium and large.", choices=tuple(SIZES))
    unbiased: bool = param(False, "Use the unbiased variance of the request, as the authors' code does.")

    def weights(self, images: int) -> Weights:
        """Return the weights of the moving average after the request."""
        momentum = self.momentum(images)
        return Weights(own=momentum, remembered=1.0 - momentum, trained=0.0, momentum=momentum, unbiased=self.unbiased)

    def momentum(self, images: int) -> float:
        """Return the weight of a request of ``images`` images."""
        small, medium, last_medium, large = SIZES[self.sizes]
        if images < medium:
            return _interpolate(images, (small, self.small), (medium, self.medium))
        return _interpolate(images, (last_medium, self.medium), (large, self.large))


def _interpolate(images: int, low: tuple[int, float], high: tuple[int, float]) -> float:
    """Interpolate on a straight line in logarithms through two points (size, weight), constant outside them."""
    (n, p), (m, q) = low, high
    if images <= n or images >= m:
        return p if images <= n else q
    fraction = math.log(images / n) / math.log(m / n)
    return float(p ** (1 - fraction) * q**fraction)
