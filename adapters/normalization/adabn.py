"""AdaBN: the stream's own statistics in place of the trained ones, updated with every request.

>>> AdaBN(momentum=0.1, reference_images=None).weights(images=4)
Weights(own=0.1, remembered=0.9, trained=0.0, momentum=0.1, unbiased=False)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adapters.base import Moments, Site, Statistics
from adapters.evidence import Evidence
from adapters.explanation import Leaning
from adapters.normalization.linear import Linear, Weights
from adapters.number import rate
from adapters.params import Checked, param


class CumulativeState(NamedTuple):
    """The state of the cumulative form: the statistics of all images so far and their number of values per channel."""

    mean: Tensor  # [C]
    var: Tensor  # [C]
    values: Tensor  # [1]


@dataclass(frozen=True)
class AdaBN(Checked, Linear):
    """Replace the trained statistics by those of the stream, followed online.

    Running (the default): ``r <- r + w (batch - r)`` for mean and variance, starting from the trained ones, with
    ``w = 1 - (1 - momentum) ** (n / reference_images)``, or ``w = momentum`` where ``reference_images`` is null.
    Cumulative: the exact statistics of all images seen since the reset, as the paper defines them, merged by
    ``d = batch_mean - mean``, ``mean <- mean + w d``, ``var <- (1 - w) var + w batch_var + w (1 - w) d^2`` with w the
    share of the new values; it never forgets, and how a stream is cut into requests does not matter.
    With ``own`` a request is normalized with the statistics after its own update, otherwise with those before it
    (causal: an answer does not depend on the other images of its request). Variances are biased unless ``unbiased``.

    One forward measures and answers: every site sees what the sites before it give with the stream's statistics. It is
    therefore not the field's running average of two passes, in which a forward in train mode moves the statistics, each
    measured behind sites that normalize by the request's own, and a second one in eval mode answers. Both agree at the
    first site only. Two passes cost a second forward, are worse on shuffled images (3 points of error on average over
    15 corruptions, 11 at most) and better on correlated ones (5 to 15 points on average): see docs/strategies.md.

    Paper: Li et al. 2016, "Revisiting Batch Normalization for Practical Domain Adaptation", Algorithm 1.
    """

    momentum: float = param(0.1, "Weight of one request of reference_images images.", above=0.0, high=1.0)
    reference_images: int | None = param(
        32, "Request size at which the weight is momentum; null: every request weighs momentum.", low=1
    )
    cumulative: bool = param(False, "Average over all images since the reset instead of following with momentum.")
    own: bool = param(True, "Whether a request is normalized with statistics that include its own images.")
    unbiased: bool = param(False, "Use the unbiased variance of the request, as running_var does.")

    @property
    def linear(self) -> bool:
        """True for the running form; the weight of a request in a cumulative average depends on the state."""
        is_unchanged = type(self).step is AdaBN.step and type(self).init is AdaBN.init
        return is_unchanged and type(self).weights_at is Linear.weights_at and not self.cumulative

    def weights(self, images: int) -> Weights:
        """Return the weights of the running form: the statistics after the request, or before it."""
        momentum = rate(self.momentum, images, self.reference_images)
        own_weight = momentum if self.own else 0.0
        return Weights(own_weight, remembered=1.0 - own_weight, trained=0.0, momentum=momentum, unbiased=self.unbiased)

    def leaning(self, site: Site, state: Any, evidence: Evidence | None) -> Leaning | None:
        """Return the weights of the running form; those of the cumulative form depend on the size of the images."""
        return None if self.cumulative else super().leaning(site, state, evidence)

    def init(self, site: Site) -> Any:
        """Return the trained statistics, with a count of zero for the cumulative form."""
        state: Statistics = super().init(site)
        return CumulativeState(*state, torch.zeros_like(site.mean[:1])) if self.cumulative else state

    def step(self, site: Site, state: Any, moments: Moments) -> tuple[Statistics, Any]:
        """Return the stream's statistics before or after this request; single values leave the state as it is."""
        if not self.cumulative:
            return super().step(site, state, moments)
        old = Statistics(state.mean, state.var)
        if moments.values < 2:
            return old, state
        new = self._merged(state, moments)
        return (Statistics(new.mean, new.var) if self.own else old), new

    def _merged(self, state: CumulativeState, moments: Moments) -> CumulativeState:
        batch = moments.pooled(unbiased=self.unbiased)
        values = state.values + moments.values
        weight = moments.values / values
        moved = Statistics(state.mean, state.var).toward(batch, weight)
        between = weight * (1 - weight) * (batch.mean - state.mean).square()
        return CumulativeState(moved.mean, moved.var + between, values)
