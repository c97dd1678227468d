"""Error and drift over a stream, as running means of few points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.evaluation.types import Result

POINTS = 80
"""Windows that start along a long stream; a curve has a few points less."""

MIN_ERROR_WINDOW = 50
"""Images in each window of an error curve at least, where the stream has four times as many: fewer give a zigzag."""


class Curve(NamedTuple):
    """A running mean; arrays are ``[points]``."""

    position: NDArray[np.float64]  # images before the middle of each window
    value: NDArray[np.float64]  # NaN where no value of the window is finite
    error: NDArray[np.float64]  # standard error of each mean, as if its values were independent; NaN of fewer than two
    window: int  # values behind each point


def running_mean(values: NDArray[np.floating], strides: int = 2, minimum: int = 2) -> Curve:
    """Means of ``values``, ``[T]``: windows begin every T / `POINTS` values and are ``strides`` times as long.

    Each window holds ``minimum`` values or more, but at most a quarter of all. Values that are not finite are left out.
    Short streams have fewer points, and a stream of a single image has one.

    Raises:
        ValueError: there are no values.
    """
    if not len(values):
        raise ValueError("a curve needs at least one value")
    stride = math.ceil(len(values) / POINTS)
    window = min(max(strides * stride, min(minimum, len(values) // 4), 1), len(values))
    starts = np.arange(0, len(values) - window + 1, stride)
    finite = np.isfinite(values)
    counts = _sums(finite.astype(np.float64), starts, window)
    filled = np.where(finite, values, 0.0).astype(np.float64)
    means = _ratio(_sums(filled, starts, window), counts)
    variance = np.maximum(_ratio(_sums(filled**2, starts, window), counts) - means**2, 0.0)
    error = np.sqrt(_ratio(variance, np.where(counts > 1, counts - 1, 0.0)))
    return Curve(starts.astype(np.float64) + window / 2, means, error, window)


def _sums(values: NDArray[np.float64], starts: NDArray[np.int64], window: int) -> NDArray[np.float64]:
    sums = np.concatenate([np.zeros(1), np.cumsum(values)])
    window_sums: NDArray[np.float64] = sums[starts + window] - sums[starts]
    return window_sums


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the quotients, NaN where the denominator is 0."""
    ratios: NDArray[np.float64] = np.full(len(numerator), math.nan, np.float64)
    np.divide(numerator, denominator, out=ratios, where=denominator > 0)
    return ratios


def error_curve(result: Result) -> Curve:
    """Error in percent over the stream."""
    return running_mean(100.0 * (result.predicted != result.label), _strides(result), MIN_ERROR_WINDOW)


def drift_curve(result: Result) -> Curve:
    """Drift over the stream as requests report it; the images of a request share it, so there is no standard error."""
    curve = running_mean(result.drift, _strides(result))
    return curve._replace(error=np.full(len(curve.value), math.nan))


def _strides(result: Result) -> int:
    # Long windows blur nothing where domains are mixed or there is only one: only noise is left.
    return 2 if len(stretches(result.domain)) > 1 else 8


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """The mean of several curves, at the positions of the shortest; the others are interpolated."""
    shortest = min(curves, key=lambda curve: curve.position[-1])
    values = np.stack([np.interp(shortest.position, curve.position, curve.value) for curve in curves])
    errors = np.stack([np.interp(shortest.position, curve.position, curve.error) for curve in curves])
    means: NDArray[np.float64] = values.mean(0)
    error: NDArray[np.float64] = np.sqrt((errors**2).sum(0)) / len(curves)
    return Curve(shortest.position, means, error, shortest.window)


class Stretch(NamedTuple):
    """A run of images of one domain."""

    domain: int
    start: int
    end: int  # the first image after it


def stretches(domain: NDArray[np.int32], limit: int = 60) -> list[Stretch]:
    """The runs of one domain in a stream, ``[T]``; none where there are more than ``limit``: domains are mixed."""
    edges = [0, *(np.flatnonzero(np.diff(domain)) + 1).tolist(), len(domain)]
    if len(edges) - 1 > limit:
        return []
    return [Stretch(int(domain[start]), start, end) for start, end in itertools.pairwise(edges)]
