"""Arithmetic with one number for each stream, Python's where there is a single stream; the pace of averages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

Number = float | Tensor
"""A number of each stream: one of Python's for a single stream, or a tensor ``[..., 1]``; at S sites ``[..., S]``."""


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


def is_zero(number: Number) -> bool:
    """Return whether a number is 0 for all streams, where that can be read: elsewhere false."""
    if isinstance(number, Tensor):
        return _is_readable(number) and not bool(number.any())
    return number == 0.0


def rate(momentum: float, images: int, reference: int | None) -> float:
    """Return the weight of a request of n images: ``1 - (1 - momentum) ** (n / reference)``, or ``momentum`` as it is.

    >>> rate(0.1, images=64, reference=32), rate(0.1, images=64, reference=None)
    (0.18999999999999995, 0.1)

    With a ``reference`` the horizon counts images (UnMix-TNS, Tomar et al. 2024, batch-size correction, by actual n).
    """
    # Not by float(): a graph for any number of images would hold for the number that it was traced with alone.
    return momentum if reference is None else cast("float", 1.0 - (1.0 - momentum) ** (images / reference))


def _is_readable(values: Tensor) -> bool:
    """Return whether reading a tensor's entries costs nothing and hides nothing from who watches its operations."""
    if torch.compiler.is_compiling() or values.requires_grad or not values.is_cpu:
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(values)
