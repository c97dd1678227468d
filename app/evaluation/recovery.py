"""Recovery after a change of domain, and what visits of the same domains teach or cost."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.evaluation.types import Result

WINDOW = 50
"""Images behind each running error."""

TOLERANCE = 0.02
"""Error above the best at which a segment counts as recovered: 2 points."""

SUCCESSIVE = ("continual", "recurring", "gradual")
"""The protocols with domains one after another and no reset between them."""

RECURRING = "recurring"


class Changes(NamedTuple):
    """Results of changes of domain; NaN where the protocol has none, or they are not known."""

    recovery_mean: float = math.nan  # images, mean over the changes
    recovery_quantile: float = math.nan  # images, 90 % quantile over the changes
    first_visit: float = math.nan  # error in percent when a domain is shown for the first time
    last_visit: float = math.nan  # and when it is shown for the last time


def measure_changes(result: Result) -> Changes:
    """Measure recovery times and visits of a run whose domains come one after another; NaN for other protocols.

    A segment is a run of images of one domain. The first one begins the stream and is no change. Segments of fewer than
    ``2 * WINDOW`` images are too short to be measured. The errors of visits are those of `recurring`, over all domains
    that come more than once; its visits show the same images, so they differ by adaptation alone.
    """
    if result.cell.protocol not in SUCCESSIVE:
        return Changes()
    wrong = result.predicted != result.label
    edges = np.flatnonzero(np.diff(result.domain)) + 1
    segments = np.split(wrong, edges)
    times = [recovery_time(segment) for segment in segments[1:] if len(segment) >= 2 * WINDOW]
    recovery = (float(np.mean(times)), float(np.quantile(times, 0.9))) if times else (math.nan, math.nan)
    if result.cell.protocol != RECURRING:
        return Changes(*recovery)
    return Changes(*recovery, *_visit_errors(result.domain[np.r_[0, edges]], segments))


def recovery_time(wrong: NDArray[np.bool_]) -> int:
    """Count the images of a segment until its error is within 2 points of the segment's own best.

    ``wrong``, ``[n]``, tells which images after the change are misclassified. With the running error
    ``r_t = mean(wrong[t : t + WINDOW])``, of the window that begins after t images, the recovery time is the smallest t
    with ``r_t <= best + TOLERANCE``; 0 means that nothing is lost from the first image on. The best is the lowest mean
    over half of the segment: ``WINDOW * (n // 2 // WINDOW)`` images in succession. It is not the lowest running error,
    because the luckiest of many short windows is far below any error that a strategy can keep; without a change of the
    true error it would take hundreds of images to come near it again by chance.

    Chance makes the time of a strategy that does not adapt more than 0 too (about 20 images in the mean, 60 in the 90 %
    quantile, where images are shuffled; more where classes come in bursts): compare with `source`.

    Returns:
        Images, 0 to ``n - WINDOW``.

    Raises:
        ValueError: the segment has fewer than ``2 * WINDOW`` images.

    >>> recovery_time(np.array([True] * 64 + [False] * 136))
    63
    """
    if len(wrong) < 2 * WINDOW:
        raise ValueError(f"a segment needs at least {2 * WINDOW} images, not {len(wrong)}")
    sums = np.concatenate([[0], np.cumsum(wrong)])
    span = WINDOW * (len(wrong) // 2 // WINDOW)
    best = (sums[span:] - sums[:-span]).min() / span
    running = (sums[WINDOW:] - sums[:-WINDOW]) / WINDOW
    # A hair more than the tolerance, because neither 2 points nor most means are exact in binary.
    return int(np.argmax(running <= best + TOLERANCE + 1e-9))


def _visit_errors(domains: NDArray[np.int32], segments: list[NDArray[np.bool_]]) -> tuple[float, float]:
    """Errors in percent of the first and of the last visits of the domains that come more than once."""
    visits: dict[int, list[NDArray[np.bool_]]] = {}
    for domain, segment in zip(domains.tolist(), segments, strict=True):
        visits.setdefault(domain, []).append(segment)
    again = [segments for segments in visits.values() if len(segments) > 1]
    if not again:
        return math.nan, math.nan
    first, last = (np.concatenate([segments[i] for segments in again]) for i in (0, -1))
    return 100.0 * float(first.mean()), 100.0 * float(last.mean())
