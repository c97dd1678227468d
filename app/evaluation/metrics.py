"""Metrics of runs: error, calibration and speed of each; means over seeds and differences to the frozen model.

Errors, confidences and calibration errors are in percent, differences of errors in points. NaN means not known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.evaluation.class_runs import ClassRuns, class_runs
from app.evaluation.recovery import Changes, measure_changes
from app.evaluation.types import PROTOCOLS, WALK, Cell, Result

SOURCE = "source"
"""The strategy that others are compared with: the frozen model."""

CLEAN = "clean"
"""The protocol that shows harm, and is left out of means over shifted streams."""

BINS = 15
_EDGES = np.arange(BINS + 1) / BINS


class Bins(NamedTuple):
    """Images by confidence, in equal-width bins that are open below and closed above; all arrays ``[BINS]``."""

    images: NDArray[np.int64]
    confidence: NDArray[np.float64]  # sum over the bin's images, each between 0 and 1
    correct: NDArray[np.float64]  # number of the bin's images with a correct prediction

    def ece(self) -> float:
        """Expected calibration error in percent: ``sum_b n_b / n |accuracy_b - confidence_b|``.

        Paper: Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3, with 15 bins.
        """
        return 100.0 * float(np.abs(self.correct - self.confidence).sum() / self.images.sum())


NO_BINS = Bins(np.zeros(BINS, np.int64), np.zeros(BINS), np.zeros(BINS))
"""Of no images: where confidences are not known."""


class Place(NamedTuple):
    """A condition for comparing strategies: protocol, order and request size."""

    protocol: str
    order: str
    batch: int

    def __str__(self) -> str:
        return f"{self.protocol}, {self.order}, requests of {self.batch}"


@dataclass(frozen=True, eq=False)
class Figures:
    """The metrics of one run."""

    cell: Cell
    images: int
    error: float
    ece: float
    domain_errors: Mapping[int, float]  # by index of the domain, in rising order; empty where they are not known
    bins: Bins
    seconds: float
    images_per_s: float
    state_bytes: int
    runs: ClassRuns  # of the stream
    changes: Changes


@dataclass(frozen=True, eq=False)
class Summary:
    """Means over the seeds of a strategy at a place. Spreads are sample standard deviations, NaN for one seed."""

    strategy: str
    place: Place
    seeds: int
    error: float
    error_spread: float
    difference: float  # to `SOURCE`, over the seeds that both have
    difference_spread: float
    ece: float
    domain_errors: Mapping[int, float]
    images_per_s: float
    state_bytes: int  # the largest
    runs: ClassRuns
    changes: Changes


def reliability(confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> Bins:
    """Sort images, ``[n]`` each, into bins.

    Raises:
        ValueError: no images, or a confidence that is not between 0 and 1 (by more than rounding).
    """
    if not len(confidence):
        raise ValueError("there are no images to measure")
    if not bool(np.all((confidence >= 0) & (confidence <= 1 + 1e-5))):
        raise ValueError("a confidence is not between 0 and 1: give the probability of the predicted class")
    bins = np.clip(np.searchsorted(_EDGES, confidence, side="left") - 1, 0, BINS - 1)
    return Bins(
        np.bincount(bins, minlength=BINS),
        np.bincount(bins, confidence, BINS).astype(np.float64),
        np.bincount(bins, correct, BINS).astype(np.float64),
    )


def pool_bins(bins: Iterable[Bins]) -> Bins:
    """The bins of several runs as one. At least one is needed."""
    images, confidence, correct = zip(*bins, strict=True)
    return Bins(np.sum(images, 0), np.sum(confidence, 0), np.sum(correct, 0))


def measure(result: Result) -> Figures:
    """The figures of one run.

    Raises:
        ValueError: the run has no images, or an invalid confidence; the message names the cell.
    """
    wrong = result.predicted != result.label
    try:
        bins = reliability(result.confidence, ~wrong)
    except ValueError as error:
        raise ValueError(f"{result.cell}: {error}") from error
    totals = np.bincount(result.domain)
    errors = np.bincount(result.domain, wrong.astype(np.float64), len(totals))
    return Figures(
        cell=result.cell,
        images=len(wrong),
        error=100.0 * float(wrong.mean()),
        ece=bins.ece(),
        domain_errors={int(i): 100.0 * float(errors[i] / totals[i]) for i in np.flatnonzero(totals)},
        bins=bins,
        seconds=result.seconds,
        images_per_s=len(wrong) / result.seconds if result.seconds > 0 else math.nan,
        state_bytes=result.state_bytes,
        runs=class_runs(result),
        changes=measure_changes(result),
    )


def measure_all(results: Iterable[Result]) -> list[Figures]:
    """The figures of all runs: by strategy in the order given, then protocol, order as given, batch and seed.

    Raises:
        ValueError: there are no results, a cell appears twice, or a run cannot be measured.
    """
    figures = [measure(result) for result in results]
    if not figures:
        raise ValueError("there are no results to report: at least one run has to succeed")
    cells = [run.cell for run in figures]
    duplicate = next((cell for cell in cells if cells.count(cell) > 1), None) if len(set(cells)) < len(cells) else None
    if duplicate is not None:
        raise ValueError(f"{duplicate} appears twice: give one result for each cell")
    strategies, protocols, orders = (ranks(str(cell[i]) for cell in cells) for i in range(3))
    names = (*PROTOCOLS, WALK)
    protocol_ranks = {name: i - len(names) for i, name in enumerate(names)}

    def rank(run: Figures) -> tuple[int, ...]:
        cell = run.cell
        protocol = protocol_ranks.get(cell.protocol, protocols[cell.protocol])
        return strategies[cell.strategy], protocol, orders[cell.order], cell.batch, cell.seed

    return sorted(figures, key=rank)


def ranks(names: Iterable[str]) -> dict[str, int]:
    """Each name's place in the order in which they first came."""
    return {name: i for i, name in enumerate(dict.fromkeys(names))}


def differences(figures: Iterable[Figures]) -> dict[Cell, float]:
    """Error minus that of `SOURCE` on the same protocol, order, batch and seed, where there is such a run."""
    figures = list(figures)
    frozen = {run.cell[1:]: run.error for run in figures if run.cell.strategy == SOURCE}
    return {run.cell: run.error - frozen[run.cell[1:]] for run in figures if run.cell[1:] in frozen}


def summarize(figures: Iterable[Figures]) -> list[Summary]:
    """One summary for each strategy and place, in the order in which they come."""
    figures = list(figures)
    difference_of = differences(figures)
    groups: dict[tuple[str, Place], list[Figures]] = {}
    for run in figures:
        cell = run.cell
        groups.setdefault((cell.strategy, Place(cell.protocol, cell.order, cell.batch)), []).append(run)
    return [_summary(strategy, place, seeds, difference_of) for (strategy, place), seeds in groups.items()]


def worst(summaries: Iterable[Summary]) -> Summary | None:
    """Return the summary furthest above the frozen model; None where no difference is known."""
    comparable = [summary for summary in summaries if math.isfinite(summary.difference)]
    return max(comparable, key=lambda summary: summary.difference, default=None)


def mean(values: Sequence[float]) -> float:
    """The mean; NaN of nothing."""
    return math.fsum(values) / len(values) if values else math.nan


def _means(rows: Sequence[Sequence[float]]) -> list[float]:
    """The mean of each column; NaN where a value is."""
    return [mean(values) for values in zip(*rows, strict=True)]


def _spread(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _summary(strategy: str, place: Place, runs: list[Figures], difference_of: Mapping[Cell, float]) -> Summary:
    errors = [run.error for run in runs]
    paired = [difference_of[run.cell] for run in runs if run.cell in difference_of]
    domains = sorted({index for run in runs for index in run.domain_errors})
    seconds = math.fsum(run.seconds for run in runs)
    return Summary(
        strategy=strategy,
        place=place,
        seeds=len(runs),
        error=mean(errors),
        error_spread=_spread(errors),
        difference=mean(paired),
        difference_spread=_spread(paired),
        ece=mean([run.ece for run in runs]),
        domain_errors={
            index: mean([run.domain_errors[index] for run in runs if index in run.domain_errors]) for index in domains
        },
        images_per_s=sum(run.images for run in runs) / seconds if seconds > 0 else math.nan,
        state_bytes=max(run.state_bytes for run in runs),
        runs=ClassRuns(*_means([run.runs for run in runs])),
        changes=Changes(*_means([run.changes for run in runs])),
    )
