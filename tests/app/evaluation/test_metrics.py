"""Figures against slow loops written from their definitions."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.evaluation.curves import POINTS, error_curve, mean_curve, running_mean, stretches
from app.evaluation.metrics import Place, differences, measure, measure_all, pool_bins, reliability, summarize, worst
from tests.app.evaluation.made import result, study

SLOW = settings(max_examples=50, deadline=None, derandomize=True)
answers = st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=60)


def _ece(answered: list[tuple[float, bool]]) -> float:
    """Guo et al. 2017, equation 3: each image is in the bin ((m - 1) / 15, m / 15]; zero is in the first."""
    total = 0.0
    for m in range(1, 16):
        in_bin = [(c, r) for c, r in answered if (m - 1) / 15 < c <= m / 15 or (m == 1 and c == 0)]
        if in_bin:
            accuracy = sum(r for _, r in in_bin) / len(in_bin)
            confidence = math.fsum(c for c, _ in in_bin) / len(in_bin)
            total += len(in_bin) / len(answered) * abs(accuracy - confidence)
    return 100 * total


@SLOW
@given(answers)
def test_ece_is_the_sum_over_bins(answered: list[tuple[float, bool]]) -> None:
    confidence, correct = (np.array(part) for part in zip(*answered, strict=True))
    bins = reliability(confidence, correct)
    assert bins.ece() == pytest.approx(_ece(answered), abs=1e-9)
    assert bins.images.sum() == len(answered)


@pytest.mark.parametrize(("value", "at"), [(0.0, 0), (1 / 15, 0), (1 / 15 + 1e-9, 1), (7 / 15, 6), (0.2, 2), (1.0, 14)])
def test_bins_are_closed_above(value: float, at: int) -> None:
    assert int(reliability(np.array([value]), np.array([True])).images.argmax()) == at


@SLOW
@given(answers, answers)
def test_pooled_bins_are_those_of_all_images(first: list[tuple[float, bool]], second: list[tuple[float, bool]]) -> None:
    parts = [reliability(*(np.array(part) for part in zip(*half, strict=True))) for half in (first, second)]
    assert pool_bins(parts).ece() == pytest.approx(_ece(first + second), abs=1e-9)


@pytest.mark.parametrize("value", [math.nan, -0.1, 1.1, math.inf])
def test_an_invalid_confidence_names_its_cell(value: float) -> None:
    with pytest.raises(ValueError, match=r"adabn.*not between 0 and 1"):
        measure(result("adabn", wrong=[True], confidence=[value]))


def test_confidence_above_one_by_rounding_is_accepted() -> None:
    assert measure(result(wrong=[False], confidence=[1.000001])).ece == pytest.approx(0, abs=1e-3)


def test_figures_of_a_run() -> None:
    figures = measure(result(wrong=[1, 0, 0, 1, 1], domain=[2, 0, 0, 2, 0], seconds=0.5, state_bytes=12))
    assert (figures.images, figures.state_bytes, figures.images_per_s) == (5, 12, 10.0)
    assert figures.error == pytest.approx(60)
    assert list(figures.domain_errors) == [0, 2]
    assert figures.domain_errors[0] == pytest.approx(100 / 3)
    assert figures.domain_errors[2] == pytest.approx(100)
    assert figures.ece == pytest.approx(50, abs=1e-4)


def test_speed_without_time_is_nan() -> None:
    assert math.isnan(measure(result(seconds=0.0)).images_per_s)


def test_results_that_cannot_be_measured_are_refused() -> None:
    with pytest.raises(ValueError, match="no images to measure"):
        measure(result(wrong=[]))
    with pytest.raises(ValueError, match="no results"):
        measure_all([])
    with pytest.raises(ValueError, match="appears twice"):
        measure_all([result(), result("bn"), result()])


def test_order_is_that_of_strategies_then_places() -> None:
    results = [
        result("z", "clean", seed=1),
        result("z", "clean"),
        result("z", "own"),
        result("z", "mixed", batch=16),
        result("z", "mixed", batch=4),
        result("source", "single", "sorted"),
        result("source", "single", "iid"),
    ]
    assert [run.cell[:5] for run in measure_all(results)] == [
        ("z", "mixed", "iid", 4, 0),
        ("z", "mixed", "iid", 16, 0),
        ("z", "clean", "iid", 4, 0),
        ("z", "clean", "iid", 4, 1),
        ("z", "own", "iid", 4, 0),
        ("source", "single", "iid", 4, 0),
        ("source", "single", "sorted", 4, 0),
    ]


def test_differences_pair_equal_seeds_only() -> None:
    results = [
        result("source", seed=0, wrong=[1, 1, 0, 0]),
        result("source", seed=1, wrong=[1, 1, 1, 1]),
        result("bn", seed=0, wrong=[1, 0, 0, 0]),
        result("bn", seed=1, wrong=[1, 1, 0, 0]),
        result("bn", seed=2, wrong=[1, 1, 1, 1]),
        result("bn", batch=16),
    ]
    figures = measure_all(results)
    by_cell = {cell[3:]: value for cell, value in differences(figures).items() if cell.strategy == "bn"}
    assert by_cell == {(4, 0): -25.0, (4, 1): -50.0}
    _, four, sixteen = summarize(figures)
    assert (four.place, four.seeds) == (Place("continual", "iid", 4), 3)
    assert four.error == pytest.approx(statistics.fmean([25, 50, 100]))
    assert four.error_spread == pytest.approx(statistics.stdev([25, 50, 100]))
    assert four.difference == pytest.approx(-37.5)
    assert four.difference_spread == pytest.approx(statistics.stdev([-25, -50]))
    assert math.isnan(sixteen.difference)
    assert math.isnan(sixteen.error_spread)


def test_the_worst_place_is_the_furthest_above_source() -> None:
    results = [
        result("source", batch=1),
        result("bn", batch=1, wrong=[1, 1, 0, 0]),
        result("bn", batch=2, wrong=[1] * 4),
        result("source", batch=8, wrong=[1, 0, 0, 0]),
        result("bn", batch=8, wrong=[1, 1, 1, 0]),
    ]
    summaries = [summary for summary in summarize(measure_all(results)) if summary.strategy == "bn"]
    hardest = worst(summaries)
    assert hardest is not None
    assert (hardest.place.batch, hardest.difference) == (8, 50.0)
    assert str(hardest.place) == "continual, iid, requests of 8"
    assert worst(summaries[1:2]) is None


@SLOW
@given(st.lists(st.one_of(st.floats(-5, 5), st.just(math.nan)), min_size=1, max_size=400), st.integers(2, 8))
def test_a_curve_is_the_mean_of_each_window(values: list[float], strides: int) -> None:
    curve = running_mean(np.array(values), strides)
    stride = -(-len(values) // POINTS)
    window = min(strides * stride, len(values))
    for place, value in zip(curve.position, curve.value, strict=True):
        start = round(place - window / 2)
        finite = [v for v in values[start : start + window] if not math.isnan(v)]
        assert start % stride == 0
        assert (math.isnan(value) and not finite) or value == pytest.approx(statistics.fmean(finite), abs=1e-9)


@pytest.mark.parametrize("images", [100, 101, 333, 5000, 49_999])
def test_a_curve_has_fifty_to_a_hundred_points_over_the_whole_stream(images: int) -> None:
    curve = running_mean(np.ones(images))
    assert 49 <= len(curve.position) <= 100
    assert curve.position[0] < 0.05 * images
    assert curve.position[-1] > 0.93 * images


def test_error_curve_follows_the_errors() -> None:
    curve = error_curve(result(wrong=[True] * 400 + [False] * 400, domain=[0] * 400 + [1] * 400))
    assert set(curve.value[curve.position < 385]) == {100.0}
    assert set(curve.value[curve.position > 415]) == {0.0}


def test_curves_of_seeds_are_averaged_at_the_same_images() -> None:
    short, long = (running_mean(np.linspace(0, end, images)) for end, images in ((8, 800), (16, 1600)))
    curve = mean_curve([short, long])
    np.testing.assert_allclose(curve.value, curve.position / 100, atol=0.06)
    assert curve.position[-1] < 800


@SLOW
@given(st.lists(st.integers(0, 2), min_size=1, max_size=40))
def test_stretches_cover_the_stream(domains: list[int]) -> None:
    runs = stretches(np.array(domains, np.int32))
    assert [part.domain for part in runs for _ in range(part.start, part.end)] == domains
    assert all(a.end == b.start and a.domain != b.domain for a, b in pairwise(runs))
    assert not stretches(np.array([0, 1] * 31, np.int32))


def test_a_whole_study_is_summarized() -> None:
    figures = measure_all(study())
    assert len(figures) == 72
    summaries = summarize(figures)
    assert len(summaries) == 36
    assert all(summary.difference == 0 for summary in summaries if summary.strategy == "source")
