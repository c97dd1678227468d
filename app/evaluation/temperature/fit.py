"""The temperature that calibrates a model, fitted on labelled images, with its effect."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.evaluation.metrics import reliability
from app.temperatures import HIGHEST, LOWEST, Calibration, CalibrationError


def nll(logits: ArrayLike, labels: ArrayLike, temperature: float = 1.0) -> float:
    """Mean over images of ``-log softmax(z / T)[label]``, in nats; logits ``[N, K]``, labels ``[N]``.

    Raises:
        CalibrationError: shapes, labels or logits are not usable.
    """
    scores, rows = _validate(logits, labels)
    return float(np.mean(-_log_softmax(scores / temperature)[rows]))


def ece(logits: ArrayLike, labels: ArrayLike, temperature: float = 1.0) -> float:
    """Expected calibration error in percent of ``softmax(z / T)``; logits ``[N, K]``, labels ``[N]``.

    Raises:
        CalibrationError: shapes, labels or logits are not usable.
    """
    scores, (_, targets) = _validate(logits, labels)
    confidence = np.exp(_log_softmax(scores / temperature).max(1))
    return reliability(confidence, scores.argmax(1) == targets).ece()


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The T that makes the labels most likely under ``softmax(z / T)``; logits ``[N, K]``, labels ``[N]``.

    The negative log-likelihood is convex in 1/T, so its slope has one zero. It is searched for in float64 on log T,
    by false position with a bracket that always shrinks (the Illinois rule).

    Raises:
        CalibrationError: no T between `LOWEST` and `HIGHEST` is best, or shapes, labels or logits are not usable.

    Paper: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2.
    """
    scores, rows = _validate(logits, labels)
    low, high = math.log(LOWEST), math.log(HIGHEST)
    at_low, at_high = _slope(scores, rows, LOWEST), _slope(scores, rows, HIGHEST)
    _check_ends(scores, at_low, at_high)
    middle, side = 0.0, 0
    for _ in range(100):
        middle = (low * at_high - high * at_low) / (at_high - at_low)
        at_middle = _slope(scores, rows, math.exp(middle))
        # An end that stays twice in a row loses half its weight, or the other end would converge slowly.
        if at_middle < 0:
            low, at_low, at_high = middle, at_middle, at_high / 2 if side < 0 else at_high
            side = -1
        else:
            high, at_high, at_low = middle, at_middle, at_low / 2 if side > 0 else at_low
            side = 1
        if at_middle == 0 or high - low < 1e-9:
            break
    return math.exp(middle)


def calibrate(logits: ArrayLike, labels: ArrayLike, held_out: ArrayLike | None = None) -> Calibration:
    """Fit a temperature and measure its effect; logits ``[N, K]``, labels ``[N]``.

    ``held_out`` ``[N]`` is true for images that only measure the effect. Without any, the images of the fit do, which
    flatters it.

    Raises:
        CalibrationError: as of `fit_temperature`.
    """
    scores, targets = np.asarray(logits), np.asarray(labels)
    is_held_out = np.zeros(len(targets), bool) if held_out is None else np.asarray(held_out, bool)
    best = fit_temperature(scores[~is_held_out], targets[~is_held_out])
    images, unseen = int((~is_held_out).sum()), int(is_held_out.sum())
    if unseen:
        scores, targets = scores[is_held_out], targets[is_held_out]
    old_nll, new_nll = nll(scores, targets), nll(scores, targets, best)
    return Calibration(best, images, unseen, old_nll, new_nll, ece(scores, targets), ece(scores, targets, best))


Rows = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Indices of each image and its label, which pick the label's entry of ``[N, K]``."""


def _validate(logits: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], Rows]:
    scores, targets = np.asarray(logits, np.float64), np.asarray(labels)
    if scores.ndim != 2 or min(scores.shape) < 1 or targets.shape != scores.shape[:1]:
        raise CalibrationError(f"logits must be [N, K] and labels [N], not {scores.shape} and {targets.shape}")
    if targets.dtype.kind not in "iu" or targets.min() < 0 or targets.max() >= scores.shape[1]:
        raise CalibrationError(f"labels must be whole numbers from 0 to {scores.shape[1] - 1}, the number of a class")
    if not np.isfinite(scores).all():
        raise CalibrationError("a logit is not finite: leave out images that the network cannot classify")
    return scores, (np.arange(len(targets)), targets.astype(np.intp))


def _log_softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = scores - scores.max(1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return result


def _slope(scores: NDArray[np.float64], rows: Rows, temperature: float) -> float:
    """Of the mean negative log-likelihood in log T, times T: negative where a higher T is better."""
    # Measured from the label's logit, so that where the network is sure and right there is nothing to cancel.
    margin = scores - scores[rows][:, None]
    expected = (np.exp(_log_softmax(scores / temperature)) * margin).sum(1)
    return -float(np.mean(expected))


def _check_ends(scores: NDArray[np.float64], at_low: float, at_high: float) -> None:
    images = len(scores)
    if not np.ptp(scores, 1).any():
        raise CalibrationError(f"all logits of each of the {images} images are equal, so no temperature changes them")
    if at_low >= 0:
        raise CalibrationError(
            f"the labels of these {images} images grow more likely down to temperature {LOWEST:g}: "
            "the network classifies them too well to be calibrated",
            hint="give more images, held out from training, so that some answers are wrong",
        )
    if at_high <= 0:
        raise CalibrationError(
            f"the labels of these {images} images grow more likely up to temperature {HIGHEST:g}: "
            "the predictions are unrelated to the labels",
            hint="check that labels number the classes as the network does, and that logits are not scaled",
        )
