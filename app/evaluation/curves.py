"""How error and drift go on over a stream, as running means of few points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.evaluation.types import Result

POINTS = 80
"""How many windows begin along a long stream: a curve has a few points less."""


class Curve(NamedTuple):
    """A running mean; both arrays ``[points]``."""

    position: NDArray[np.float64]  # images before the middle of each window
    value: NDArray[np.float64]  # NaN where no value of the window is finite


def running(values: NDArray[np.floating], strides: int = 2) -> Curve:
    """Means of ``values``, ``[T]``: windows begin every T / `POINTS` values and are ``strides`` times as long.

    Values that are not finite are left out. A window holds two values or more, so streams of few images have fewer
    points, and one of a single image has one.

    Raises:
        ValueError: there are no values.
    """
    if not len(values):
        raise ValueError("a curve needs at least one value")
    stride = math.ceil(len(values) / POINTS)
    window = min(strides * stride, len(values))
    starts = np.arange(0, len(values) - window + 1, stride)
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0), dtype=np.float64)])
    counts = np.concatenate([[0], np.cumsum(finite)])
    shown = counts[starts + window] - counts[starts]
    means: NDArray[np.float64] = np.full(len(starts), math.nan, np.float64)
    np.divide(sums[starts + window] - sums[starts], shown, out=means, where=shown > 0)
    return Curve(starts.astype(np.float64) + window / 2, means)


def error_curve(result: Result) -> Curve:
    """Error in percent over the stream."""
    return running(100.0 * (result.predicted != result.label), _strides(result))


def drift_curve(result: Result) -> Curve:
    """Drift over the stream, as requests were told it."""
    return running(result.drift, _strides(result))


def _strides(result: Result) -> int:
    # Nothing is blurred by long windows where domains are mixed, or there is only one, and noise is what is left.
    return 2 if len(stretches(result.domain)) > 1 else 8


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """The mean of several, at the positions of the shortest; the others are read between their points."""
    shortest = min(curves, key=lambda curve: curve.position[-1])
    values = np.stack([np.interp(shortest.position, curve.position, curve.value) for curve in curves])
    means: NDArray[np.float64] = values.mean(0)
    return Curve(shortest.position, means)


class Stretch(NamedTuple):
    """A run of images of one domain."""

    domain: int
    start: int
    end: int  # the first image after it


def stretches(domain: NDArray[np.int32], most: int = 60) -> list[Stretch]:
    """The runs of one domain in a stream, ``[T]``; none where there are more than ``most``: domains are mixed."""
    edges = [0, *(np.flatnonzero(np.diff(domain)) + 1).tolist(), len(domain)]
    if len(edges) - 1 > most:
        return []
    return [Stretch(int(domain[start]), start, end) for start, end in itertools.pairwise(edges)]
