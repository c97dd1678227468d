"""How far what requests show is from the training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.base import Site, Statistics
from adapters.errors import UnsupportedModelError
from adapters.moments import Seen, wasserstein
from adapters.sites import Sites


class Sights(NamedTuple):
    """What a forward's images showed at the sites that it reached."""

    both: Tensor  # [n, 2, C] means and variances, C over all these sites
    sites: list[int]
    pixels: list[int]  # at each of them


def gathered(seen: Mapping[int, Seen]) -> Sights:
    """One tensor of what was seen site by site.

    Raises:
        UnsupportedModelError: no site was reached, so nothing was adapted.
    """
    if not seen:
        raise UnsupportedModelError(
            "the forward reached none of the network's BatchNorm layers through torch.nn.functional.batch_norm: "
            "scripted and exported networks hide them; host the eager nn.Module instead"
        )
    both = torch.cat([part.both.view(part.both.shape[0], 2, -1) for part in seen.values()], 2)
    return Sights(both, list(seen), [part.pixels for part in seen.values()])


def drift(sites: Sites, seen: Sights, sizes: Sequence[int]) -> Tensor:
    """For each request of ``sizes`` images its distance from the training data, ``[requests]``.

    The mean over sites and channels of `adapters.moments.wasserstein`, with each request's pooled moments as what was
    observed. Sites where a request shows a single value per channel have no variance to compare and are left out.
    """
    observed = _pooled(seen.both.cpu().double(), torch.tensor(sizes))
    trained, eps, pixels = _reached(tuple(sites[index] for index in seen.sites), tuple(seen.pixels))
    distance = wasserstein(observed, trained[0], trained[1], eps)
    if min(seen.pixels) > 1 or min(sizes) > 1:
        return distance.mean(1)
    shown = pixels * torch.tensor(sizes)[:, None] > 1
    return torch.where(shown, distance, 0.0).sum(1) / shown.sum(1).clamp_min(1)


@lru_cache(4)
def _reached(sites: tuple[Site, ...], pixels: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Trained statistics ``[2, C]``, eps ``[C]`` and positions ``[C]`` of the channels of these sites."""
    trained = torch.cat([site.row.view(2, -1) for site in sites], 1).cpu().double()
    eps = torch.cat([torch.full((site.channels,), site.eps) for site in sites])
    positions = torch.cat([torch.full((s.channels,), count) for s, count in zip(sites, pixels, strict=True)])
    return trained, eps, positions


def _pooled(both: Tensor, images: Tensor) -> Statistics:
    """Moments ``[N, 2, C]`` of images to statistics of requests ``[R, C]``.

    In double precision: squares of float32 may leave the range of float32.
    """
    mean, var = both.unbind(1)
    if len(images) == len(mean):
        return Statistics(mean, var)
    request = torch.arange(len(images)).repeat_interleave(images)

    def per_request(values: Tensor) -> Tensor:
        total = values.new_zeros(len(images), values.shape[1]).index_add_(0, request, values)
        return total / images[:, None]

    pooled = per_request(mean)
    return Statistics(pooled, per_request(var + (mean - pooled[request]).square()))
