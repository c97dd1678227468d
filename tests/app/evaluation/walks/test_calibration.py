"""The calibration of walks against a model whose accuracy is known for every blend."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from app.evaluation.errors import DataError, EvaluationError
from app.evaluation.walks.calibration import DIFFICULTIES, Walk, calibrate, find_crossing
from tests.app.evaluation.walks.blendable import CLASSES, FULL, LABELS, blendable, predict

STRONG = {"fog": 200, "snow": 160, "frost": 120}


def _calibrate(difficulty: str = "medium", **damages: int) -> Walk:
    return asyncio.run(calibrate(blendable(**(damages or STRONG)), predict, difficulty, lambda _: None))


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_the_accuracy_stays_at_the_target_along_every_path(difficulty: str) -> None:
    damages = {"fog": 200, "snow": 160}
    walk = _calibrate(difficulty, **damages)
    assert walk.target == pytest.approx(1 / CLASSES + DIFFICULTIES[difficulty] * (1 - 1 / CLASSES))
    for path in walk.paths:
        strength = np.array([damages[name] for name in damages])[[path.start, path.end]]
        accuracies = 1 - path.weights @ strength / FULL
        assert accuracies == pytest.approx(walk.target, abs=0.02)
        assert path.accuracies == pytest.approx(walk.target, abs=0.02)
        assert ((path.weights >= 0) & (path.weights <= 1)).all()


def test_a_walk_is_closed_and_goes_on_with_the_same_weights() -> None:
    walk = _calibrate()
    assert [(path.start, path.end) for path in walk.paths] == [(0, 1), (1, 2), (2, 0)]
    for path, following in zip(walk.paths, [*walk.paths[1:], walk.paths[0]], strict=True):
        assert path.weights[-1].tolist() == following.weights[0, ::-1].tolist()
        assert (path.weights[0, 1], path.weights[-1, 0]) == (0, 0)


def test_corruptions_that_are_too_easy_are_left_out() -> None:
    walk = _calibrate("medium", fog=200, brightness=50, snow=100)
    assert walk.left_out == [1]
    assert [(path.start, path.end) for path in walk.paths] == [(0, 2), (2, 0)]


def test_calibration_is_deterministic_and_reports_each_step() -> None:
    steps: list[str] = []
    first = asyncio.run(calibrate(blendable(**STRONG), predict, "easy", steps.append))
    for path, again in zip(first.paths, _calibrate("easy").paths, strict=True):
        assert np.array_equal(path.weights, again.weights)
    assert len(steps) == 6
    assert steps[-1] == "calibrating the walk: frost to fog"


async def _wrong(pixels: Tensor) -> NDArray[np.int64]:
    return (await predict(pixels) + 1) % CLASSES


async def _constant(pixels: Tensor) -> NDArray[np.int64]:
    return np.full(len(pixels), LABELS[0])


@pytest.mark.parametrize(
    ("damages", "model", "difficulty", "message"),
    [
        ({"fog": 200, "snow": 30}, predict, "medium", "lower the accuracy of source to 68 %, but 1 of 2 do"),
        ({"fog": 200}, predict, "medium", "at least two corruptions"),
        (STRONG, _wrong, "medium", "right on 0 % of the clean images, hardly more than chance"),
        (STRONG, _constant, "medium", "right on 20 % of the clean images, hardly more than chance"),
        (STRONG, predict, "impossible", "unknown difficulty 'impossible'"),
    ],
)
def test_impossible_walks_are_refused(
    damages: dict[str, int], model: Callable[[Tensor], object], difficulty: str, message: str
) -> None:
    with pytest.raises(EvaluationError, match=message) as caught:
        asyncio.run(calibrate(blendable(**damages), model, difficulty, lambda _: None))  # type: ignore[arg-type]
    assert caught.value.hint


def _crossing(function: Callable[[float], float], end: float = 1.0, target: float = 0.5) -> tuple[float, float]:
    async def accuracy(x: float) -> float:
        return function(x)

    return asyncio.run(find_crossing(accuracy, end, function(0.0), target))


@settings(deadline=None)
@given(st.floats(0.1, 3), st.floats(0.2, 5), st.floats(0.3, 0.9))
def test_the_crossing_of_a_falling_curve_is_found(end: float, power: float, target: float) -> None:
    x, accuracy = _crossing(lambda x: 1 - (x / end) ** power, end, target)
    assert accuracy == pytest.approx(target)
    assert x == pytest.approx(end * (1 - target) ** (1 / power), abs=end / 32)


@pytest.mark.parametrize(
    ("function", "x", "accuracy"),
    [
        (lambda x: 1 - 0.4 * x, 1.0, 0.6),  # never low enough: the lowest
        (lambda x: 0.6 + 0.4 * abs(x - 0.5), 0.5, 0.6),
        (lambda x: 1 - 2 * min(x, 1 - x), 0.25, 0.5),  # the first of two crossings
        (lambda x: 1.0 if x < 0.7 else 0.2, 0.675, 0.5),
    ],
)
def test_crossings_made_by_hand(function: Callable[[float], float], x: float, accuracy: float) -> None:
    assert _crossing(function) == pytest.approx((x, accuracy), abs=0.04)


def test_data_errors_are_evaluation_errors() -> None:
    assert issubclass(DataError, EvaluationError)
