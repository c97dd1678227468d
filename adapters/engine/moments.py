"""Measure an activation image by image, and turn statistics into the activation normalized with them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.base import Moments, Statistics

SMALL = 2**15
"""Values per image up to which a few operations on the whole batch are quicker than one operation per image."""
FEW = 2**8
"""Positions up to which torch's own sum of an image, row by row, is as exact as float32 needs to be."""
ONE_OPERATION = 2**17
"""Values up to which a new tensor by one operation is quicker than writing in place by several."""


class BatchMoments(NamedTuple):
    """Moments of all images of a forward at one site, in one tensor."""

    values: Tensor  # [n, 2C] float32: the means, then the biased variances
    pixels: int

    def of(self, images: slice) -> Moments:
        """The moments of some of the images."""
        mean, var = self.values[images].chunk(2, 1)
        return Moments(mean, var, self.pixels)


def measure(x: Tensor) -> BatchMoments:
    """Return each image's moments per channel. ``x`` is ``[n, C, ...]`` of any floating type; it is only read.

    Variances are computed from centred values, so nothing cancels where the mean is large beside the deviation, and
    half precision is widened first, because sums of squares leave its range.
    """
    pixels = math.prod(x.shape[2:])
    if pixels == 1:
        mean = x.reshape(x.shape[:2]).float()
        return BatchMoments(torch.cat([mean, torch.zeros_like(mean)], 1), 1)
    x = x.float()
    if x.requires_grad:
        return BatchMoments(_differentiable(x), pixels)
    if torch.compiler.is_compiling():
        return BatchMoments(_in_one_pass(x), pixels)
    if x.is_cpu and x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        if x.shape[0] == 1 and pixels <= FEW:
            return BatchMoments(torch.cat(torch.batch_norm_update_stats(x, None, None, 0.0))[None], pixels)
        if x[0].numel() > SMALL:
            return BatchMoments(_large(x), pixels)
    positions = tuple(range(2, x.dim()))
    mean = x.mean(positions, keepdim=True)
    var = (x - mean).square_().mean(positions)
    return BatchMoments(torch.cat([mean.flatten(1), var], 1), pixels)


def _differentiable(x: Tensor) -> Tensor:
    """Measure for learners: by operations that gradients pass through, and without writing over anything."""
    positions = tuple(range(2, x.dim()))
    mean = x.mean(positions, keepdim=True)
    return torch.cat([mean.flatten(1), (x - mean).square().mean(positions)], 1)


def _large(x: Tensor) -> Tensor:
    """Measure large images: the variance in one operation, which reads it from the cache the second time.

    That operation adds up row by row, so the mean that it finds is off by more than float32 needs to be: the means are
    taken apart, and the variance, which was measured around the other mean, is moved to this one.
    """
    mean = x.mean((2, 3))
    statistics = [torch.batch_norm_update_stats(image, None, None, 0.0) for image in x.unsqueeze(1).unbind(0)]
    center, var = statistics[0] if len(statistics) == 1 else map(torch.stack, zip(*statistics, strict=True))
    offset = center - mean
    return torch.cat([mean, torch.addcmul(var, offset, offset, value=-1).clamp_min_(0.0)], 1)


def _in_one_pass(x: Tensor) -> Tensor:
    """Measure for the compiler, which makes one loop of both sums.

    They are taken from one of the image's own values: the square of its distance from the mean is at most ``pixels``
    times the variance, so little can cancel, whatever the mean is.
    """
    positions = tuple(range(2, x.dim()))
    origin = x.flatten(2)[:, :, :1]
    shifted = x - broadcast_over_positions(origin[:, :, 0], x)
    mean, square = shifted.mean(positions), shifted.square().mean(positions)
    return torch.cat([origin[:, :, 0] + mean, (square - mean.square()).clamp_min(0.0)], 1)


class Affine(NamedTuple):
    """The affine after the normalization at a call: weight and bias (None: one and zero), and its eps.

    Both are ``[C]``, or ``[n, C]`` where images differ in what their streams have learned.
    """

    weight: Tensor | None
    bias: Tensor | None
    eps: float


def normalize(x: Tensor, statistics: Statistics, affine: Affine, *, in_place: bool = False) -> Tensor:
    """Return ``weight (x - mean) / sqrt(var + eps) + bias``, computed in float32, of the type of ``x``.

    ``statistics`` hold one row per image or a single row. With ``in_place`` a float32 ``x`` is written over: a new
    tensor of that size costs more than the arithmetic.
    """
    is_uniform = statistics.mean.numel() == x.shape[1] and (affine.weight is None or affine.weight.dim() == 1)
    if is_uniform and _small(x):
        weight, bias, eps = affine
        mean, var = statistics if statistics.mean.dim() == 1 else (statistics.mean[0], statistics.var[0])
        return torch.batch_norm(x, weight, bias, mean, var, False, 0.0, eps, False)
    scale = torch.rsqrt(statistics.var + affine.eps)
    if affine.weight is not None:
        scale = scale * affine.weight.float()
    if affine.bias is None:
        shift = -statistics.mean * scale
    else:
        shift = torch.addcmul(affine.bias.float(), statistics.mean, scale, value=-1)
    scale, shift = broadcast_over_positions(scale, x), broadcast_over_positions(shift, x)
    in_place = in_place and not x.requires_grad
    if x.dtype != torch.float32:
        return torch.addcmul(shift, x.float(), scale).to(x.dtype)
    if x.dim() == 4 and not x.is_contiguous():
        return torch.addcmul(shift, x, scale, out=x if in_place else None)
    # Without channels_last, two operations are much faster than one.
    return torch.mul(x, scale, out=x if in_place else None).add_(shift)


def _small(x: Tensor) -> bool:
    # Gradients do not pass through the statistics of torch's own operation.
    if torch.compiler.is_compiling() or x.requires_grad:
        return False
    return x.numel() <= ONE_OPERATION and x.dtype == torch.float32 and not x.is_cuda


def broadcast_over_positions(rows: Tensor, like: Tensor) -> Tensor:
    """Return ``[n, C]`` (or ``[C]``) as a view that broadcasts over the positions of ``like``, ``[n, C, ...]``."""
    return rows.reshape(-1, rows.shape[-1], *(1 for _ in like.shape[2:]))
