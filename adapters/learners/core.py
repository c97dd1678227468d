"""Core: one gradient step per request on the correlation between classes.

>>> Core().loss(torch.zeros(8, 4))  # uniform over four classes: (1 - 4 / 16) / 4
tensor(0.1875)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from adapters.learners.descent import Descent
from adapters.params import param


@dataclass(frozen=True)
class Core(Descent):
    """Move the affine parameters so that no two classes share an image: one gradient step per request.

    With ``P = softmax(logits)`` ``[n, K]`` and ``R = P^T P`` the loss is ``(sum R - trace R) / K``, the correlation of
    pairs of different classes. ``normalize`` says how it is kept from growing with n:

    - ``images``: R is divided by n. As each row of P sums to one this is ``mean_i (1 - sum_k p_ik^2) / K``, so every
      image counts alike and by itself, as with the entropy of Tent, but very uncertain images contribute less.
    - ``classes``: each row of R is divided by its sum, so every class counts alike, however few images show it. It
      resists a collapse of the answers into one class; meant for requests of more images than there are classes.

    Small requests collapse the answers into a few classes, so requests below ``least_images`` are answered by the
    adapter alone and not learned from; 1 learns from every request, as the paper does. No code of the authors is known:
    the loss is as the paper's summary states it, and the normalization is ours, the second after Jin et al. 2020,
    "Minimum Class Confusion".

    Paper: You, Li and Zhao 2021, "Test-time Batch Statistics Calibration for Covariate Shift" (Core).
    """

    adapter: ClassVar[str] = "alpha_bn"

    least_images: int = param(100, "Requests of fewer images are answered but not learned from.", low=1)
    normalize: str = param("images", "Normalization of the loss.", choices=("images", "classes"))

    def loss(self, logits: Tensor) -> Tensor:
        """Return the correlation between classes, from 0 (none) to below 1."""
        shares = logits.softmax(1)
        correlation = shares.mT @ shares
        if self.normalize == "images":
            correlation = correlation / len(logits)
        else:
            # A class that no image shows has a row of zeros.
            correlation = correlation / correlation.sum(1, keepdim=True).clamp_min(1e-12)
        return (correlation.sum() - correlation.trace()) / logits.shape[1]
