"""Tests of whether numbers are finite."""

from __future__ import annotations

import math

from torch import Tensor


def finite_rows(values: Tensor) -> list[bool]:
    """Return for each row of ``[n, ...]`` if all its numbers are finite.

    A sum with NaN or an infinite term is never finite, and summing takes a single pass that keeps nothing: only where
    a sum is not finite, which may come of large numbers too, is each number looked at.
    """
    if len(values) == 1:
        return [_is_finite(values)]
    rows = values.reshape(len(values), -1)
    finite: list[bool] = rows.sum(1).isfinite().tolist()
    if not all(finite):
        finite = rows.isfinite().all(1).tolist()
    return finite


def all_finite(*tensors: Tensor) -> bool:
    """Return true if every number in every floating-point tensor is finite."""
    return all(_is_finite(tensor) for tensor in tensors if tensor.is_floating_point())


def _is_finite(values: Tensor) -> bool:
    return math.isfinite(float(values.sum())) or bool(values.isfinite().all())
