"""Measure the drift of a stream's images from clean ones, and how far its normalization has followed.

Both are read at the first BatchNorm that a forward reaches: no statistics are adapted before it, so its input is that
of the frozen network whatever the strategy does, and its channels (edges, colours, brightness) feel fog, noise, blur
and darkness alike. Moments of single images are compared, so that the size of a request makes no difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.base import Site, Statistics
from adapters.engine.moments import BatchMoments
from adapters.engine.plan import PlannedRequest
from adapters.errors import UnsupportedModelError
from adapters.state.memory import Memories, Memory, StateKey

HORIZON = 32
"""The horizon of drift in images: an image n images ago has the weight ``(1 - 1 / 32) ** n``."""

FARTHEST = 30.0
"""The largest distance of an image, in spreads: one extreme image is forgotten within a few hundred."""

MEANS_BETWEEN, VARIANCES_BETWEEN = 0.1, 0.6
"""Assumed of a network without a baseline: the share of a trained variance that lies between the means of images, and
the deviation of their variances in units of it. Channels of trained first layers have 0.005 to 0.5 and 0.4 to 0.8."""

_DECAY = 1.0 - 1.0 / HORIZON


class Baseline(NamedTuple):
    """The moments of single clean images at the first site: their mean and their spread (standard deviation).

    >>> fit_baseline(torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
    Baseline(mean=tensor([1., 2.]), spread=tensor([1.4142, 1.4142]))
    """

    mean: Tensor  # [2C] float32: of the images' means, then of their variances
    spread: Tensor  # [2C] float32


class FirstSite(NamedTuple):
    """The moments of a forward's images at the first site that it reached, and the statistics used there."""

    site: int  # its index
    moments: Tensor  # [n, 2C], of each image
    statistics: Tensor  # [n, 2C], or one row for all
    pixels: int  # positions of an image


class Reading(NamedTuple):
    """The drift and adaptation of each request, in the order of the images, and the new sums of streams."""

    drift: list[float]
    adaptation: list[float]
    sums: dict[StateKey, Tensor]  # none is a part of a larger tensor, all of which would be kept with it


def first_site(site_moments: Mapping[int, BatchMoments], statistics: Statistics | None) -> FirstSite:
    """Return the first site that a forward reached.

    Raises:
        UnsupportedModelError: none was reached, so nothing was adapted.
    """
    if not site_moments or statistics is None:
        raise UnsupportedModelError(
            "the forward reached none of the network's BatchNorm layers through torch.nn.functional.batch_norm: "
            "scripted and exported networks hide them; host the eager nn.Module instead"
        )
    index, moments = next(iter(site_moments.items()))
    channels = moments.values.shape[1] // 2
    rows = torch.cat([part.reshape(-1, channels) for part in statistics], 1)
    return FirstSite(index, moments.values, rows, moments.pixels)


def fit_baseline(moments: Tensor) -> Baseline:
    """Return the baseline of clean images whose moments at the first site are ``[N, 2C]``, N > 1.

    A channel that does not move between images gets the smallest spread that float32 tells from none.
    """
    values = moments.double()
    mean, spread = values.mean(0), values.std(0)
    return Baseline(mean.float(), torch.maximum(spread, 1e-6 * (1.0 + mean.abs())).float())


def assumed_baseline(site: Site, pixels: int) -> Baseline:
    """Return the baseline assumed for a network without a measured one, from its trained statistics."""
    mean, var = site.mean.cpu(), site.var.cpu()
    if pixels == 1:  # one position has no variance: what training saw lies between images
        return Baseline(torch.cat([mean, torch.zeros_like(var)]), torch.cat([var + site.eps] * 2).sqrt())
    spread = torch.cat([(MEANS_BETWEEN * var + site.eps).sqrt(), VARIANCES_BETWEEN * var + site.eps])
    return Baseline(torch.cat([mean, (1.0 - MEANS_BETWEEN) * var]), spread)


def fitting_baseline(baseline: Baseline | None, site: Site, first: FirstSite) -> Baseline:
    """Return the baseline if there is one, otherwise the assumed one.

    Raises:
        UnsupportedModelError: it is of another network.
    """
    if baseline is None:
        return assumed_baseline(site, first.pixels)
    if len(baseline.mean) != 2 * site.channels:
        raise UnsupportedModelError(
            f"the baseline has {len(baseline.mean) // 2} channels, but the first BatchNorm layer ({site.name}) of the "
            f"network has {site.channels}: measure it again with this network"
        )
    return baseline


def read_drift(
    site: Site, first: FirstSite, baseline: Baseline, requests: Sequence[PlannedRequest], memories: Memories
) -> Reading:
    """Return the drift and adaptation of each of the ``requests``, which are in the order of the images.

    With ``z`` an image's moments less the baseline's mean, in units of its spread, the drift is ``sqrt(mean over
    channels of m^2 - q)``, at least 0: ``m`` is the mean of the stream's last images, the request's own included, each
    weighing less by ``1 - 1 / HORIZON`` than the one after it, and ``q`` the sum of the squared weights, which is what
    ``m^2`` is expected to be for clean images. So 0 is clean, and 1 a stream whose mean has moved by as much as clean
    images differ from each other.

    The adaptation is the distance of the statistics that normalized the request from the trained ones, in the same
    units: 0 is `source`, and about the drift where a strategy has followed it.
    """
    streams: dict[StateKey, int] = {}
    parts = tuple(
        (streams.setdefault(request.key, len(streams)), request.images, request.update) for request in requests
    )
    channels = len(baseline.mean)
    plan = _weigh(parts, channels)
    distance = first.moments.cpu().double().sub_(baseline.mean).div_(baseline.spread)
    z = distance.nan_to_num_(FARTHEST).clamp_(-FARTHEST, FARTHEST)
    old_sums = torch.stack([_sums(memories.get(request.key), channels) for request in requests])
    new_sums = torch.cat([plan.images @ z, plan.sums], 1).add_(plan.retention * old_sums)
    # The variance of one position is always 0, which carries no information.
    columns = slice(channels if first.pixels > 1 else channels // 2)
    square, count = new_sums[:, columns].square().mean(1), new_sums[:, -2]
    drift = square.sub_(new_sums[:, -1]).div_(count.square()).clamp_min_(0.0).sqrt_()
    shift = ((first.statistics.cpu().double() - site.row.cpu()) / baseline.spread)[:, columns]
    shift = (plan.share @ shift if len(shift) > 1 else shift).square().mean(1).sqrt().expand(len(requests))
    rows: Sequence[Tensor] = torch.unbind_copy(new_sums.float())  # type: ignore[func-returns-value,assignment]
    sums = {key: rows[plan.last[stream]] for key, stream in streams.items() if plan.last[stream] >= 0}
    return Reading(drift.tolist(), shift.tolist(), sums)


def _sums(memory: Memory | None, channels: int) -> Tensor:
    """Return a stream's sums of drift: those of the weighted ``z``, the weights and their squares."""
    if memory is None or len(memory.drift_sums) != channels + 2:
        return _no_sums(channels)
    return memory.drift_sums


@lru_cache(32)
def _no_sums(channels: int) -> Tensor:
    return torch.zeros(channels + 2)


class _DriftWeights(NamedTuple):
    """The weights of a forward's images for each of its R requests."""

    images: Tensor  # [R, n] of each image in what a request's stream has seen then
    share: Tensor  # [R, n] of each image in the mean of its request
    sums: Tensor  # [R, 2] of the weights, and of their squares
    retention: Tensor  # [R, channels + 2] how much of each number of the sums before is left
    last: list[int]  # of each stream, the request whose sums it remembers; -1: of none


@lru_cache(32)
def _weigh(parts: tuple[tuple[int, int, bool], ...], channels: int) -> _DriftWeights:
    """Return the weights for requests ``(stream, images, update)``; forwards look alike for long."""
    stream, sizes = torch.tensor([part[0] for part in parts]), torch.tensor([part[1] for part in parts])
    update = torch.tensor([part[2] for part in parts])
    counts: dict[int, int] = {}
    starts, last = [], [-1] * (max(part[0] for part in parts) + 1)
    for index, (key, images, updates) in enumerate(parts):
        starts.append(counts.get(key, 0))
        if updates:
            counts[key], last[key] = starts[-1] + images, index
    ends = torch.tensor(starts) + sizes
    request = torch.arange(len(parts))
    owner = request.repeat_interleave(sizes)
    offset = torch.arange(len(owner)) - (sizes.cumsum(0) - sizes)[owner]
    position = torch.tensor(starts)[owner] + offset + 1
    is_own = owner == request[:, None]
    is_earlier = (stream[owner] == stream[:, None]) & (owner < request[:, None]) & update[owner]
    weights = torch.where(is_own | is_earlier, _DECAY ** (ends[:, None] - position).double(), 0.0)
    sums = torch.stack([weights.sum(1), weights.square().sum(1)], 1)
    decay = (_DECAY ** ends.double())[:, None]
    retention = torch.cat([decay.expand(-1, channels + 1), decay.square()], 1)
    return _DriftWeights(weights, is_own.double() / sizes[:, None], sums, retention, last)
