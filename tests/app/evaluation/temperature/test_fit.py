"""Temperatures against a search that knows no slope, and the file that keeps them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.evaluation.temperature.fit import calibrate, ece, fit_temperature, nll
from app.temperatures import Calibration, CalibrationError, Temperatures

FITTED = Calibration(1.5, 200, 0, 0.5, 0.4, 6.0, 1.0)


def _answers(seed: int, images: int, scale: float = 1.0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits whose labels were drawn from their softmax, times ``scale``."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(images, 4)) * 2
    return scale * logits, (logits + random.gumbel(size=logits.shape)).argmax(1)


def _slow_nll(logits: Any, labels: Any, temperature: float) -> float:
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        largest = max(float(z) for z in row) / temperature
        total += largest + math.log(math.fsum(math.exp(float(z) / temperature - largest) for z in row))
        total -= float(row[label]) / temperature
    return total / len(labels)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(20, 80), st.floats(0.1, 10))
def test_no_other_temperature_makes_the_labels_more_likely(seed: int, images: int, scale: float) -> None:
    logits, labels = _answers(seed, images, scale)
    temperature = fit_temperature(logits, labels)
    assume(0.02 < temperature < 50)
    best = _slow_nll(logits, labels, temperature)
    assert nll(logits, labels, temperature) == pytest.approx(best, abs=1e-9)
    for factor in (0.01, 0.5, 0.9, 0.999, 1.001, 1.1, 2, 100):
        assert _slow_nll(logits, labels, temperature * factor) >= best - 1e-12
    assert _slow_nll(logits, labels, temperature * 1.01) > best


def test_the_temperature_follows_the_scale_of_the_logits() -> None:
    logits, labels = _answers(3, 400)
    once = fit_temperature(logits, labels)
    assert once == pytest.approx(1, abs=0.15)
    assert fit_temperature(5 * logits, labels) == pytest.approx(5 * once, rel=1e-8)
    assert fit_temperature(logits + 1000, labels) == pytest.approx(once, rel=1e-6)


def test_overconfident_answers_are_calibrated() -> None:
    logits, labels = _answers(4, 2000, scale=3)
    calibration = calibrate(logits, labels)
    assert calibration.temperature == pytest.approx(3, rel=0.1)
    assert calibration.nll_after < calibration.nll_before
    assert calibration.ece_after < 4 < 10 < calibration.ece_before
    assert (calibration.images, calibration.held_out) == (2000, 0)
    assert calibration.ece_before == ece(logits, labels)


def test_figures_are_of_the_images_that_were_held_out() -> None:
    logits, labels = _answers(4, 900, scale=3)
    held_out = np.arange(900) % 3 == 0
    calibration = calibrate(logits, labels, held_out)
    assert (calibration.images, calibration.held_out) == (600, 300)
    assert calibration.temperature == fit_temperature(logits[~held_out], labels[~held_out])
    assert calibration.nll_after == nll(logits[held_out], labels[held_out], calibration.temperature)
    assert calibration.ece_before == ece(logits[held_out], labels[held_out])
    with pytest.raises(CalibrationError, match="must be"):
        calibrate(logits, labels, np.ones(900, bool))


def test_tensors_and_lists_are_accepted() -> None:
    logits, labels = _answers(5, 50)
    assert fit_temperature(torch.tensor(logits), torch.tensor(labels)) == fit_temperature(logits, labels)
    assert fit_temperature(logits.tolist(), labels.tolist()) == fit_temperature(logits, labels)


def test_separable_logits_are_refused_at_the_bound() -> None:
    with pytest.raises(CalibrationError, match=r"10 images .* down to temperature 0\.01") as caught:
        fit_temperature(5 * np.eye(10), np.arange(10))
    assert "held out" in caught.value.hint
    with pytest.raises(CalibrationError, match="up to temperature 100"):
        fit_temperature(-5 * np.eye(10), np.arange(10))


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((3, 2)), [0, 1, 1], "equal"),
        (np.zeros(3), [0, 1, 1], "must be"),
        (np.zeros((3, 2)), [0, 1], "must be"),
        (np.zeros((0, 2)), [], "must be"),
        (np.eye(2), [0, 2], "from 0 to 1"),
        (np.eye(2), [-1, 0], "from 0 to 1"),
        (np.eye(2), [0.0, 1.0], "whole numbers"),
        (np.array([[0, math.nan]]), [0], "not finite"),
        (np.array([[0, -math.inf]]), [0], "not finite"),
    ],
)
def test_unusable_answers_are_refused(logits: Any, labels: Any, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        fit_temperature(logits, labels)


def test_temperatures_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "temperatures.json"
    assert Temperatures.load(path) == Temperatures()
    temperatures = (
        Temperatures().including("net", "adabn", FITTED).including("net", "bn", FITTED._replace(temperature=2))
    )
    temperatures.save(path)
    assert Temperatures.load(path) == temperatures
    assert temperatures.get("net", "bn") == FITTED._replace(temperature=2)
    assert temperatures.get("net", "source") is None
    assert temperatures.get("other", "bn") is None
    assert json.loads(path.read_text())["net"]["adabn"]["temperature"] == 1.5
    temperatures.including("net", "bn", FITTED).save(path)
    assert Temperatures.load(path).get("net", "bn") == FITTED
    assert [file.name for file in path.parent.iterdir()] == ["temperatures.json"]


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "temperatures.json"
    Temperatures().including("net", "adabn", FITTED).save(path)
    content = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        Temperatures().including("net", "adabn", FITTED._replace(nll_before=math.nan)).save(path)
    assert path.read_bytes() == content
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0}, "temperature of 'adabn' of 'net' is 0"),
        ({"temperature": 1e9}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"images": 1.5}, "images"),
        ({"held_out": -1}, "held_out"),
        ({"nll_after": -1}, "nll_after"),
        ({"ece_after": math.nan}, "ece_after"),
        ({"ece_after": math.inf}, "ece_after"),
        ({"other": 1}, "nothing else"),
    ],
)
def test_a_broken_entry_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "temperatures.json"
    path.write_text(json.dumps({"net": {"adabn": {**FITTED._asdict(), **change}}}))
    with pytest.raises(CalibrationError, match=message) as caught:
        Temperatures.load(path)
    assert str(path) in caught.value.message
    assert "fit again" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[]", "must be an object"),
        (b'{"net": 1}', "'net' must be"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "temperatures.json"
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match=message):
        Temperatures.load(path)


def test_a_folder_cannot_be_read_as_temperatures(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="cannot be read"):
        Temperatures.load(tmp_path)
