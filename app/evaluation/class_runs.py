"""Runs of one class in a stream: their true lengths, of which the name of an order says little."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.evaluation.types import Result


class ClassRuns(NamedTuple):
    """Images in a run of one class; NaN where not known."""

    mean: float
    median: float


def class_runs(result: Result) -> ClassRuns:
    """Mean and median length of the runs of one class, over the runs of a stream, in images.

    A run ends where the class changes or the stream is reset: with the protocol `single` where the domain changes. A
    run goes on over a change of domain without a reset. Images of more than one request belong to one run.
    """
    is_end = np.diff(result.label) != 0
    if result.cell.protocol == "single":
        is_end |= np.diff(result.domain) != 0
    lengths = run_lengths(is_end)
    return ClassRuns(float(lengths.mean()), float(np.median(lengths)))


def run_lengths(is_end: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Lengths of the runs of T values, of which ``is_end``, ``[T - 1]``, says where one ends before the next value.

    >>> run_lengths(np.array([False, False, True, False, True])).tolist()
    [3, 2, 1]
    """
    edges = np.concatenate([[0], np.flatnonzero(is_end) + 1, [len(is_end) + 1]])
    return np.diff(edges).astype(np.int64)
