"""Outliers: images so far from the training data that nothing is learned from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.base import Site
from adapters.engine.moments import BatchMoments
from adapters.sites import Sites

BOUND = 6.0
"""Trained deviations that an image may lie from the trained mean, at the site where it lies farthest.

With the bundled network no picture of the fifteen corruptions of CIFAR-10-C at severity 5 lies more than 2.7 away, raw
pixels from 0 to 255 as the network's input about 70.
"""
NEAR = 3.0
"""The same at the first site, up to which an image is learned from however far it lies later.

There it depends on the image alone (a picture lies at most 2.2 away), elsewhere also on what the stream has learned
before: a stream that has learned something wrong must be able to learn better.
"""
LOUD = 6.6
"""Trained deviations at the first site, by the root mean square over its channels, from which on an image moves a
running average less than others.

Pictures of the fifteen corruptions lie at most 2.5 away by this measure. It is not lower because where the statistics
of a layer fit its input badly, ordinary inputs lie far out too, and have to be followed.
"""


class _Trained(NamedTuple):
    """The trained statistics of some sites, side by side."""

    mean: Tensor  # [channels]
    inverse: Tensor  # [channels], of variance and eps
    columns: Tensor  # [2 channels]: where in the sites' moments all means lie, then all variances
    share: Tensor  # [channels, sites]: of a channel in the mean of its site
    first: int  # channels of the first site


def distances(sites: Sites, site_moments: Mapping[int, BatchMoments]) -> Tensor:
    """Return the distances of a forward's images from the trained statistics, ``[n, 3]``: first, largest, loudest.

    In trained deviations, at the first site and where it is most: with ``r_c = ((m_c - mu_c)^2 + v_c) / (var_c + eps)``
    the energy of channel c around its trained mean, it is ``sqrt(exp(mean over c of log(1 + r_c)) - 1)``. The geometric
    mean because some channels of many networks hardly varied in training, and single ones that do now say little. The
    third is ``sqrt(mean r_c)`` at the first site: single channels move a running average all the same.
    """
    reached = tuple(sites[index] for index in site_moments)
    # Kept beside the sites, and made in a first forward: not while a compiler traces one.
    trained: _Trained | None = sites.joined.get(reached)
    if trained is None:
        trained = sites.joined[reached] = _trained(reached)
    values = torch.cat([moments.values for moments in site_moments.values()], 1).detach()
    mean, var = values.index_select(1, trained.columns).chunk(2, 1)
    offset = mean - trained.mean
    energy = torch.addcmul(var, offset, offset).mul_(trained.inverse)
    loud = energy[:, : trained.first].mean(1)
    logs = energy.log1p_() @ trained.share
    return torch.stack([logs[:, 0].expm1(), logs.amax(1).expm1(), loud], 1).sqrt_()


def _trained(sites: Sequence[Site]) -> _Trained:
    widths = [site.channels for site in sites]
    starts = [2 * start for start in torch.tensor([0, *widths]).cumsum(0).tolist()]
    means = torch.cat([torch.arange(s, s + width) for s, width in zip(starts, widths, strict=False)])
    offset = torch.tensor(widths).repeat_interleave(torch.tensor(widths))
    owner = torch.arange(len(widths)).repeat_interleave(torch.tensor(widths))
    device = sites[0].mean.device
    return _Trained(
        torch.cat([site.mean for site in sites]),
        torch.cat([1.0 / (site.var + site.eps) for site in sites]),
        torch.cat([means, means + offset]).to(device),
        ((owner[:, None] == torch.arange(len(widths))) / torch.tensor(widths)).to(device),
        widths[0],
    )


def are_outliers(image_distances: Tensor, bound: float) -> list[bool]:
    """Return for each row of `distances` whether its image is an outlier; inf: none is beyond the bound."""
    return [first > NEAR and farthest > bound for first, farthest, _ in image_distances.tolist()]


def step_weights(image_distances: Tensor, bound: float) -> list[float]:
    """Return the share of a running average's usual step for each image: ``(LOUD / loud) ** 4``, at most 1.

    What an image adds to a variance grows with the square of its distance, so none moves the first site further than
    one at `LOUD`, and the louder the less. Where there is no ``bound`` every step is whole.
    """
    if bound == math.inf:
        return [1.0] * len(image_distances)
    return [(LOUD / loud) ** 4 if loud > LOUD else 1.0 for loud in image_distances[:, 2].tolist()]
