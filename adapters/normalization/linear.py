"""Linear adapters: weighted sums of the request's, the remembered and the trained statistics."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from adapters.base import Adapter, Moments, Nothing, Site, Statistics
from adapters.evidence import Evidence
from adapters.explanation import Leaning


class Weights(NamedTuple):
    """The step of one request as four weights.

    >>> AdaBN(0.1, reference_images=None, own=False).weights(images=4)
    Weights(own=0.0, remembered=1.0, trained=0.0, momentum=0.1, unbiased=False)

    The request is normalized with ``own * request + remembered * state + trained * source``; then the state moves by
    ``momentum`` toward the request. ``unbiased`` takes the request's variance as ``var * values / (values - 1)``.
    """

    own: float
    remembered: float
    trained: float
    momentum: float
    unbiased: bool = False


class Linear(Adapter[Any]):
    """Base of strategies whose step is linear in mean and variance: a subclass gives its `Weights`.

    >>> class Half(Linear):
    ...     def weights(self, images): return Weights(own=0.5, remembered=0.0, trained=0.5, momentum=0.0)
    >>> Half().weights_at(images=1, pixels=1)  # a single value has no variance
    Weights(own=0.0, remembered=1.0, trained=0.0, momentum=0.0, unbiased=False)

    Because weighted sums of weighted sums are weighted sums, a forward computes the steps of all its requests of all
    linear strategies as one small matrix product per site, in whatever order their streams demand, see
    `adapters.engine.linear_steps`. `step` is the same for one request. The state is a mean and a variance, starting
    from the trained ones; with ``remembers`` false there is none. A request with a single value per
    channel has no variance: it is answered with the remembered or else the trained statistics, and does not update.
    """

    remembers: ClassVar[bool] = True

    @property
    def linear(self) -> bool:
        """True if the step follows from the weights: false for one that overrides ``step`` or reads evidence."""
        cls = type(self)
        # A stream's evidence is gathered where its steps are taken one by one.
        return not cls.reads_evidence and (cls.step, cls.init, cls.weights_at) == (
            Linear.step,
            Linear.init,
            Linear.weights_at,
        )

    def weights(self, images: int) -> Weights:
        """Return the weights of a request of ``images`` images."""
        raise NotImplementedError

    def weights_at(self, images: int, pixels: int) -> Weights:
        """Return the weights at a site where each image has ``pixels`` positions."""
        if images * pixels < 2:
            return Weights(0.0, 1.0, 0.0, 0.0) if self.remembers else Weights(0.0, 0.0, 1.0, 0.0)
        return self.weights(images)

    def leaning(self, site: Site, state: Any, evidence: Evidence | None) -> Leaning | None:
        """Return the weights of a single image, where it has several positions."""
        del site, state, evidence
        weights = self.weights_at(images=1, pixels=2)
        return Leaning(weights.own, weights.remembered, weights.trained)

    def remaining(self, requests: int, images: int) -> float:
        """Return the share of the trained statistics, with which a memory begins, after requests with so many images.

        Requests count as if all were of the same size.
        """
        if not requests:
            return 1.0
        size, fraction = divmod(images / requests, 1.0)
        low, high = (1.0 - self.weights_at(max(1, int(size) + k), pixels=2).momentum for k in (0, 1))
        share: float = (low ** (1.0 - fraction) * high**fraction) ** requests
        return share

    def init(self, site: Site) -> Any:
        """Return the trained statistics, or nothing."""
        return Statistics(site.mean.clone(), site.var.clone()) if self.remembers else Nothing()

    def step(self, site: Site, state: Any, moments: Moments) -> tuple[Statistics, Any]:
        """Return the weighted sums for one request."""
        weights = self.weights_at(moments.images, moments.pixels)
        reads_request, moves = bool(weights.own), bool(weights.momentum) and self.remembers
        request = moments.pooled(unbiased=weights.unbiased) if reads_request or moves else site.trained
        parts = [(weights.own, request), (weights.trained, site.trained)]
        if self.remembers:
            parts.append((weights.remembered, Statistics(*state)))
        return _weighted_sum(parts), state.toward(request, weights.momentum) if moves else state


def as_linear(adapter: object) -> Linear | None:
    """Return the adapter if its steps follow from its weights, otherwise None."""
    return adapter if isinstance(adapter, Linear) and adapter.linear else None


def _weighted_sum(parts: list[tuple[float, Statistics]]) -> Statistics:
    """Return the weighted sum; parts of weight 0 are left out, so that non-finite values in them do no harm."""
    terms = [(weight, part) for weight, part in parts if weight]
    if len(terms) == 1 and terms[0][0] == 1.0:
        return terms[0][1]
    mean = sum((weight * part.mean for weight, part in terms[1:]), terms[0][0] * terms[0][1].mean)
    var = sum((weight * part.var for weight, part in terms[1:]), terms[0][0] * terms[0][1].var)
    return Statistics(mean, var)
