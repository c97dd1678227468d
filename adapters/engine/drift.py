"""How far a stream's images are from clean ones, and how far its normalization has gone after them.

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
from adapters.state.memory import Memory, StateKey

HORIZON = 32
"""Images that a stream's drift is about: an image n images ago weighs ``(1 - 1 / 32) ** n``."""

FARTHEST = 30.0
"""Spreads beyond which an image counts as so far away: one absurd image is forgotten within a few hundred."""

MEANS_BETWEEN, VARIANCES_BETWEEN = 0.1, 0.6
"""Assumed of a network without a baseline: the share of a trained variance that lies between the means of images, and
the deviation of their variances in units of it. Channels of trained first layers have 0.005 to 0.5 and 0.4 to 0.8."""

_KEPT = 1.0 - 1.0 / HORIZON


class Baseline(NamedTuple):
    """The moments of single clean images at the first site: their mean and their spread (standard deviation)."""

    mean: Tensor  # [2C] float32: of the images' means, then of their variances
    spread: Tensor  # [2C] float32


class FirstSite(NamedTuple):
    """What a forward showed at the first site that it reached, and what normalized it there."""

    site: int  # its index
    moments: Tensor  # [n, 2C], of each image
    used: Tensor  # [n, 2C], or one row for all
    pixels: int  # positions of an image


class Reading(NamedTuple):
    """What a forward tells of each request, in the order of the images, and what streams remember for the next."""

    drift: list[float]
    adaptation: list[float]
    evidence: dict[StateKey, Tensor]  # none is a part of a larger tensor, all of which would be kept with it


def first_site(seen: Mapping[int, BatchMoments], used: Statistics | None) -> FirstSite:
    """The first site that a forward reached, of all that were seen.

    Raises:
        UnsupportedModelError: none was reached, so nothing was adapted.
    """
    if not seen or used is None:
        raise UnsupportedModelError(
            "the forward reached none of the network's BatchNorm layers through torch.nn.functional.batch_norm: "
            "scripted and exported networks hide them; host the eager nn.Module instead"
        )
    index, moments = next(iter(seen.items()))
    channels = moments.both.shape[1] // 2
    rows = torch.cat([part.reshape(-1, channels) for part in used], 1)
    return FirstSite(index, moments.both, rows, moments.pixels)


def fit_baseline(moments: Tensor) -> Baseline:
    """The baseline of clean images whose moments at the first site are ``[N, 2C]``, N > 1.

    A channel that does not move between images gets the smallest spread that float32 tells from none.
    """
    values = moments.double()
    mean, spread = values.mean(0), values.std(0)
    return Baseline(mean.float(), torch.maximum(spread, 1e-6 * (1.0 + mean.abs())).float())


def assumed_baseline(site: Site, pixels: int) -> Baseline:
    """What is taken for the baseline of a network that none was measured for: from its trained statistics."""
    mean, var = site.mean.cpu(), site.var.cpu()
    if pixels == 1:  # one position has no variance: what training saw lies between images
        return Baseline(torch.cat([mean, torch.zeros_like(var)]), torch.cat([var + site.eps] * 2).sqrt())
    spread = torch.cat([(MEANS_BETWEEN * var + site.eps).sqrt(), VARIANCES_BETWEEN * var + site.eps])
    return Baseline(torch.cat([mean, (1.0 - MEANS_BETWEEN) * var]), spread)


def fitting_baseline(baseline: Baseline | None, site: Site, first: FirstSite) -> Baseline:
    """The baseline itself if there is one, or what is assumed for one.

    Raises:
        UnsupportedModelError: it is of another network.
    """
    if baseline is None:
        return assumed_baseline(site, first.pixels)
    if len(baseline.mean) != 2 * site.channels:
        raise UnsupportedModelError(
            f"the baseline is of {len(baseline.mean) // 2} channels, the network's first BatchNorm layer ({site.name}) "
            f"has {site.channels}: measure it again on this network"
        )
    return baseline


def read_drift(
    site: Site,
    first: FirstSite,
    baseline: Baseline,
    requests: Sequence[PlannedRequest],
    memories: Mapping[StateKey, Memory],
) -> Reading:
    """Drift and adaptation of each of the ``requests``, which are in the order of the images.

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
    before = torch.stack([_evidence(memories.get(request.key), channels) for request in requests])
    after = torch.cat([plan.images @ z, plan.sums], 1).add_(plan.kept * before)
    # A variance of one position is 0 by definition, and tells nothing.
    used = slice(channels if first.pixels > 1 else channels // 2)
    square, count = after[:, used].square().mean(1), after[:, -2]
    drift = square.sub_(after[:, -1]).div_(count.square()).clamp_min_(0.0).sqrt_()
    moved = ((first.used.cpu().double() - site.row.cpu()) / baseline.spread)[:, used]
    moved = (plan.share @ moved if len(moved) > 1 else moved).square().mean(1).sqrt().expand(len(requests))
    rows: Sequence[Tensor] = torch.unbind_copy(after.float())  # type: ignore[func-returns-value,assignment]
    evidence = {key: rows[plan.last[stream]] for key, stream in streams.items() if plan.last[stream] >= 0}
    return Reading(drift.tolist(), moved.tolist(), evidence)


def _evidence(memory: Memory | None, channels: int) -> Tensor:
    """What a stream remembers for its drift: the weighted sum of ``z``, of the weights, and of their squares."""
    if memory is None or len(memory.evidence) != channels + 2:
        return _no_evidence(channels)
    return memory.evidence


@lru_cache(32)
def _no_evidence(channels: int) -> Tensor:
    return torch.zeros(channels + 2)


class _Plan(NamedTuple):
    """The weights of a forward's images for each of its R requests."""

    images: Tensor  # [R, n] of each image in what a request's stream has seen then
    share: Tensor  # [R, n] of each image in the mean of its request
    sums: Tensor  # [R, 2] of the weights, and of their squares
    kept: Tensor  # [R, channels + 2] how much of each number of the evidence before is left
    last: list[int]  # of each stream, the request whose evidence it remembers; -1: of none


@lru_cache(32)
def _weigh(parts: tuple[tuple[int, int, bool], ...], channels: int) -> _Plan:
    """The weights for requests ``(stream, images, update)``; forwards look alike for long."""
    stream, sizes = torch.tensor([part[0] for part in parts]), torch.tensor([part[1] for part in parts])
    update = torch.tensor([part[2] for part in parts])
    passed: dict[int, int] = {}
    begins, last = [], [-1] * (max(part[0] for part in parts) + 1)
    for index, (own, images, learns) in enumerate(parts):
        begins.append(passed.get(own, 0))
        if learns:
            passed[own], last[own] = begins[-1] + images, index
    ends = torch.tensor(begins) + sizes
    request = torch.arange(len(parts))
    owner = request.repeat_interleave(sizes)
    within = torch.arange(len(owner)) - (sizes.cumsum(0) - sizes)[owner]
    place = torch.tensor(begins)[owner] + within + 1
    itself = owner == request[:, None]
    earlier = (stream[owner] == stream[:, None]) & (owner < request[:, None]) & update[owner]
    weights = torch.where(itself | earlier, _KEPT ** (ends[:, None] - place).double(), 0.0)
    sums = torch.stack([weights.sum(1), weights.square().sum(1)], 1)
    decay = (_KEPT ** ends.double())[:, None]
    kept = torch.cat([decay.expand(-1, channels + 1), decay.square()], 1)
    return _Plan(weights, itself.double() / sizes[:, None], sums, kept, last)
