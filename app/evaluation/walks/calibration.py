"""The path of a walk: weights of two corruptions at which the frozen model's accuracy stays near a target."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from app.evaluation.datasets.data import Dataset
from app.evaluation.errors import DataError, EvaluationError
from app.evaluation.streams.subsets import balanced_subset
from app.evaluation.types import Blend
from app.evaluation.walks.blends import blend_images, check_blendable, clean_domain

DIFFICULTIES = {"easy": 0.8, "medium": 0.6, "hard": 0.4}
"""Shares of the frozen model's accuracy on clean images, above chance, that it keeps during a walk."""

CALIBRATION_IMAGES = 128
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the second corruption in the sum of both weights, at the calibrated points of a path."""

SCANNED, HALVINGS = 4, 3
"""Sums of weights that are tried at a point, and how often the interval with the target is halved."""

TOLERANCE = 0.05
"""Accuracy above the target up to which a corruption at full weight takes part."""

MARGIN = 0.1
"""Accuracy above chance that the frozen model needs on clean images."""

Predict = Callable[[Tensor], Awaitable[NDArray[np.int64]]]
"""The frozen model: the predicted classes, ``[n]``, of pixels uint8 ``[n, H, W, 3]``."""


class Path(NamedTuple):
    """A path from the corruption ``start`` to the corruption ``end``, by their domains, through points of `SHARES`."""

    start: int
    end: int
    weights: NDArray[np.float64]  # [points, 2], of both; the first ends at 0, the second begins there
    accuracies: NDArray[np.float64]  # [points], of the frozen model, 0 to 1


class Walk(NamedTuple):
    """A closed walk through corruptions in published order. Accuracies are between 0 and 1."""

    paths: list[Path]
    target: float
    left_out: list[int]  # domains that are too easy at full weight


class _Levels(NamedTuple):
    """Accuracies of the frozen model: on clean images, and wished for."""

    clean: float
    target: float


class _Point(NamedTuple):
    """Weights of two corruptions, ``[2]``, and the accuracy there."""

    weights: NDArray[np.float64]
    accuracy: float


class _Meter(NamedTuple):
    """The accuracy of the frozen model on blends of the same images."""

    dataset: Dataset
    images: NDArray[np.int64]
    labels: NDArray[np.int64]  # as the model numbers them
    predict: Predict

    @classmethod
    def of(cls, dataset: Dataset, predict: Predict) -> _Meter:
        labels = clean_domain(dataset).labels
        images = balanced_subset(labels, CALIBRATION_IMAGES, np.random.default_rng(0))
        return cls(dataset, images, dataset.to_model_labels(labels[images]), predict)

    async def accuracy(self, pair: tuple[int, int], weights: NDArray[np.float64]) -> float:
        n = len(self.images)
        start, end = (np.full(n, number, np.int32) for number in pair)
        blend = Blend(end, np.tile(weights.astype(np.float32), (n, 1)))
        pixels = blend_images(self.dataset, start, self.images, blend, slice(0, n))
        return float(np.mean(await self.predict(pixels) == self.labels))


async def calibrate(dataset: Dataset, predict: Predict, difficulty: str, show: Callable[[str], None]) -> Walk:
    """Find the path of a walk whose images the frozen model finds as hard as ``difficulty`` says.

    The target is ``chance + share * (clean - chance)``, with the share of `DIFFICULTIES`, the frozen model's accuracy
    on clean images, and chance as 1 / classes. The idea is CCC's (Press et al. 2023, "RDumb"): two
    corruptions whose strengths follow a path of equal accuracy, and a new partner when one is gone. CCC chooses among
    severities and applies one corruption after the other; here the changes of their pixels are blended.

    A corruption alone, at a weight of at most 1, must bring the accuracy within `TOLERANCE` of the target; others are
    left out. Between two of them, at each of `SHARES`, the smallest sum of weights found to reach the target is taken,
    or the one with the lowest accuracy where none does. ``show`` is called with each step.

    Raises:
        EvaluationError: there is no such difficulty, the data cannot be blended, fewer than two corruptions are hard
            enough, or the model is no better than chance.
    """
    check_difficulty(difficulty)
    check_walk(dataset)
    meter = _Meter.of(dataset, predict)
    clean, chance = await meter.accuracy((dataset.shifted[0],) * 2, np.zeros(2)), 1 / max(dataset.classes, 1)
    if clean < chance + MARGIN:
        raise DataError(
            f"source is right on {100 * clean:.0f} % of the clean images, hardly more than chance: too few for a walk",
            hint="check that the model and the data belong together",
        )
    levels = _Levels(clean, chance + DIFFICULTIES[difficulty] * (clean - chance))
    hard = await _find_hard(meter, levels, show)
    paths = []
    for start, end in zip(hard, [*list(hard)[1:], next(iter(hard))], strict=True):
        show(f"calibrating the walk: {dataset.domains[start].title} to {dataset.domains[end].title}")
        between = [await _find_point(meter, (start, end), share, levels) for share in SHARES[1:-1]]
        points = [hard[start], *between, _Point(hard[end].weights[::-1], hard[end].accuracy)]
        weights, accuracies = zip(*points, strict=True)
        paths.append(Path(start, end, np.array(weights), np.array(accuracies)))
    return Walk(paths, levels.target, [number for number in dataset.shifted if number not in hard])


def check_difficulty(difficulty: str) -> None:
    """Check that there is such a difficulty.

    Raises:
        EvaluationError: there is not.
    """
    if difficulty not in DIFFICULTIES:
        raise EvaluationError(f"unknown difficulty {difficulty!r}", hint=f"choose from {', '.join(DIFFICULTIES)}")


def check_walk(dataset: Dataset) -> None:
    """Check that the data may have a walk, before there is a model.

    Raises:
        DataError: there are fewer than two corruptions, or they cannot be blended.
    """
    if len(dataset.shifted) < 2:
        raise DataError("a walk needs at least two corruptions", hint="leave out --domains, or name more of them")
    check_blendable(dataset, dataset.shifted)


async def _find_hard(meter: _Meter, levels: _Levels, show: Callable[[str], None]) -> dict[int, _Point]:
    """Find the corruptions that reach the target alone, and their weights, ``[2]``, of which the second is 0."""
    points: dict[int, _Point] = {}
    for number in meter.dataset.shifted:
        show(f"calibrating the walk: {meter.dataset.domains[number].title}")
        points[number] = await _find_point(meter, (number, number), 0.0, levels)
    hard = {number: point for number, point in points.items() if point.accuracy <= levels.target + TOLERANCE}
    if len(hard) < 2:
        raise DataError(
            f"a walk needs two corruptions that lower the accuracy of source to {100 * levels.target:.0f} %, but "
            f"{len(hard)} of {len(points)} do",
            hint="choose an easier --difficulty, or data with stronger corruptions",
        )
    return hard


async def _find_point(meter: _Meter, pair: tuple[int, int], share: float, levels: _Levels) -> _Point:
    """Find the weights with this share of the second corruption at which the accuracy falls to the target."""
    direction = np.array([1 - share, share])

    async def accuracy(total: float) -> float:
        return await meter.accuracy(pair, total * direction)

    total, reached = await find_crossing(accuracy, float(1 / direction.max()), levels.clean, levels.target)
    return _Point(total * direction, reached)


async def find_crossing(
    accuracy: Callable[[float], Awaitable[float]], end: float, clean: float, target: float
) -> tuple[float, float]:
    """Find the smallest x of 0..``end`` at which ``accuracy(x)`` falls to the target, and the accuracy there.

    `SCANNED` values are tried; between the first one at or below the target and the one before it the interval is
    halved `HALVINGS` times, then the accuracy is taken as linear. Where none is low enough, the lowest is returned.
    ``clean`` is the accuracy at 0.
    """
    low, high = (0.0, clean), (0.0, clean)
    best = (end, 2.0)
    for i in range(1, SCANNED + 1):
        low, high = high, (end * i / SCANNED, await accuracy(end * i / SCANNED))
        best = min(best, high, key=lambda point: point[1])
        if high[1] <= target:
            break
    else:
        return best
    for _ in range(HALVINGS):
        middle = (low[0] + high[0]) / 2
        point = (middle, await accuracy(middle))
        low, high = (low, point) if point[1] <= target else (point, high)
    # Of two points at or below the target only the first is kept, so the accuracies differ unless both are at it.
    fraction = 1.0 if low[1] <= high[1] else (low[1] - target) / (low[1] - high[1])
    return low[0] + fraction * (high[0] - low[0]), low[1] + fraction * (high[1] - low[1])
