"""Measure an activation image by image, and turn statistics into the activation normalized with them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.base import Moments, Statistics


def measure(x: Tensor) -> tuple[Tensor, Moments]:
    """Each image's moments per channel, and the activation centred by its own means.

    ``x`` is ``[n, C, ...]`` of any floating type; both results are float32. The variance comes from centred values, so
    nothing cancels where the mean is large beside the deviation.
    """
    # Half precision is widened first: sums of squares leave its range.
    x = x.float()
    pixels = math.prod(x.shape[2:])
    if pixels == 1:
        # A copy: the network may write to its activation before the moments are read for the last time.
        mean = x.reshape(x.shape[:2]).clone()
        return torch.zeros_like(x), Moments(mean, torch.zeros_like(mean), 1)
    positions = tuple(range(2, x.dim()))
    mean = x.mean(positions)
    centred = x - spread(mean, x)
    var = torch.linalg.vector_norm(centred, dim=positions).square() / pixels
    return centred, Moments(mean, var, pixels)


class Affine(NamedTuple):
    """What follows the normalization at a call: weight and bias ``[C]`` (None: one and zero), and its eps."""

    weight: Tensor | None
    bias: Tensor | None
    eps: float


def normalize(centred: Tensor, seen: Moments, used: Statistics, affine: Affine) -> Tensor:
    """``weight (x - used.mean) / sqrt(used.var + eps) + bias``, float32, written over ``centred``.

    ``used`` holds one row per image or a single row. The centred activation is ours alone, so overwriting it saves a
    second one; and measuring from the image's own mean keeps the rounding small where the mean is large.
    """
    scale = torch.rsqrt(used.var + affine.eps)
    if affine.weight is not None:
        scale = affine.weight.float() * scale
    shift = (seen.mean - used.mean) * scale
    if affine.bias is not None:
        shift = shift + affine.bias.float()
    return torch.addcmul(spread(shift, centred), centred, spread(scale, centred), out=centred)


def spread(rows: Tensor, like: Tensor) -> Tensor:
    """``[n, C]`` (or ``[C]``) as a view that broadcasts over the positions of ``like``, ``[n, C, ...]``."""
    return rows.reshape(-1, rows.shape[-1], *(1 for _ in like.shape[2:]))


def wasserstein(observed: Statistics, site_mean: Tensor, site_var: Tensor, eps: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance between Gaussians, per channel, in units of the trained variance.

    ``((m - m_s)^2 + (sqrt(v) - sqrt(v_s))^2) / (v_s + eps)``: eps keeps a channel that was constant in training finite,
    just as it does in the normalization itself.
    """
    means = (observed.mean - site_mean).square()
    deviations = (observed.var.sqrt() - site_var.sqrt()).square()
    return (means + deviations) / (site_var + eps)
