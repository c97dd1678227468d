"""Running averages of a stream, shrunk toward the trained statistics as far as chance explains their difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from adapters.base import Adapter, Moments, Site, Statistics
from adapters.evidence import Evidence
from adapters.explanation import Leaning
from adapters.params import Checked, param

Number = float | Tensor
"""A number of each stream: one of Python's for a single stream, or a tensor ``[..., 1]``."""
TINY = 1e-12
"""Shift, in trained variances, below which there is none."""


class AveragesState(NamedTuple):
    """Running averages over a stream's images at one site, side by side, so that few operations move them."""

    averages: Tensor  # [..., 3, C] of the images' means, of their own variances, and the variance of their means
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
        averages = torch.stack([site.mean, site.var, torch.zeros_like(site.mean)])
        return AveragesState(averages, torch.zeros_like(site.mean[:1]))

    def step(self, site: Site, state: AveragesState, moments: Moments) -> tuple[Statistics, AveragesState]:
        """Return the shrunk statistics, this request included, and the averages after it."""
        if site.depth > self.adapted_depth or moments.pixels < 2:
            return site.trained, state
        images, (count,) = moments.images, numbers(state.images)
        # Single images are most requests: a view is quicker than a mean of one.
        mean, within = (part[..., 0, :] if images == 1 else part.mean(-2) for part in moments[:2])
        spread = None if images == 1 else (moments.mean - mean.unsqueeze(-2)).square().mean(-2)
        square, levels = _measure(site, state.averages, mean, within, spread)
        count = self._count(levels, count, images)
        share = images / count
        # The levels after the request follow from those before it, which saves another pass over the channels.
        shift = maximum(levels.shift + share * (2.0 * levels.overlap + share * levels.moved), 0.0)
        between = (1.0 - share) * (levels.between + share * levels.moved) + share * levels.spread
        weight = self._weight(shift, between, count, moments.evidence)
        target = square * (1.0 - share) if spread is None else square * (1.0 - share) + spread
        averages = lerp(state.averages, torch.stack([mean, within, target], -2), share, rows=True)
        new_mean, new_within, new_between = averages.unbind(-2)
        statistics = Statistics(
            lerp(site.mean, new_mean, weight),
            lerp(site.var, new_within + new_between, weight),
        )
        return statistics, AveragesState(averages, to_tensor(count, state.images))

    def leaning(self, site: Site, state: AveragesState, evidence: Evidence | None) -> Leaning:
        """Return the weights of the next single image, as far as it is like those before."""
        count = float(state.images)
        if site.depth > self.adapted_depth or not count:
            return Leaning(0.0, 0.0, 1.0)
        mean, _, between = state.averages
        shift, spread = numbers(torch.stack([(mean - site.mean).square(), between]) @ site.precision)
        weight = float(self._weight(shift, spread, count, evidence))
        request = weight / (count + 1.0)
        return Leaning(request, weight - request, 1.0 - weight)

    def _independent_images(self, count: Number, evidence: Evidence | None) -> Number:
        """Return the number of independent images that averages over ``count`` images count as."""
        del count, evidence
        return self.independent_images

    def _count(self, levels: Levels, count: Number, images: int) -> Number:
        """Return the images behind the averages after a request of so many, of ``count`` before it."""
        del levels
        return minimum(count, max(0.0, self.horizon - images)) + images

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
    shift: Number  # of the square of the running mean's offset from the trained one
    overlap: Number  # of the product of both offsets
    spread: Number = 0.0  # of the variance between the request's images


def _measure(
    site: Site, averages: Tensor, mean: Tensor, within: Tensor, spread: Tensor | None
) -> tuple[Tensor, Levels]:
    """Return the square of the offset of a request's mean from the running one ``[..., C]``, and all levels."""
    old_mean, old_within, between = averages.unbind(-2)
    offset, moved = old_mean - site.mean, mean - old_mean
    square = moved.square()
    rows = [old_within, between, within, square, offset.square(), offset * moved]
    stacked = torch.stack(rows if spread is None else [*rows, spread], -2)
    return square, Levels(*numbers(stacked @ site.precision))


def lerp(start: Tensor, end: Tensor, weight: Number, *, rows: bool = False) -> Tensor:
    """Return ``start + weight * (end - start)``; with ``rows`` the tensors have one more axis than the streams."""
    return torch.lerp(start, end, weight.unsqueeze(-1) if rows and isinstance(weight, Tensor) else weight)


def numbers(values: Tensor) -> Sequence[Number]:
    """Return the k entries of values ``[..., k]``: Python's numbers where that is possible, otherwise ``[..., 1]``.

    For one stream on a CPU, an operation on a number takes a twentieth of the time of one on a tensor of one entry.
    """
    if values.dim() == 1 and _is_readable(values):
        entries: list[float] = values.tolist()
        return entries
    return torch.split(values, 1, -1)


def to_tensor(number: Number, like: Tensor) -> Tensor:
    """Return a number as a tensor with the shape of ``like``."""
    return number if isinstance(number, Tensor) else torch.full_like(like, number)


def maximum(number: Number, bound: Number) -> Number:
    """Return the larger of two numbers."""
    if isinstance(number, Tensor):
        return torch.maximum(number, bound) if isinstance(bound, Tensor) else number.clamp_min(bound)
    return bound.clamp_min(number) if isinstance(bound, Tensor) else max(number, bound)


def minimum(number: Number, bound: float) -> Number:
    """Return the smaller of two numbers."""
    return number.clamp_max(bound) if isinstance(number, Tensor) else min(number, bound)


def log(number: Number) -> Number:
    """Return the natural logarithm."""
    return number.log() if isinstance(number, Tensor) else math.log(number)


def _is_readable(values: Tensor) -> bool:
    """Return whether reading a tensor's entries costs nothing and hides nothing from who watches its operations."""
    if torch.compiler.is_compiling() or values.requires_grad or not values.is_cpu:
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(values)
