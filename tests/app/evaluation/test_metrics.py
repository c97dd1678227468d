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
from app.evaluation.metrics import Place, differences, measure, measure_all, pooled, reliability, summarize, worst
from tests.app.evaluation.made import result, study

SLOW = settings(max_examples=50, deadline=None, derandomize=True)
answers = st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=60)


def _ece(answered: list[tuple[float, bool]]) -> float:
    """Guo et al. 2017, equation 3: each image is in the bin ((m - 1) / 15, m / 15]; zero is in the first."""
    total = 0.0
    for m in range(1, 16):
        held = [(c, r) for c, r in answered if (m - 1) / 15 < c <= m / 15 or (m == 1 and c == 0)]
        if held:
            accuracy = sum(r for _, r in held) / len(held)
            confidence = math.fsum(c for c, _ in held) / len(held)
            total += len(held) / len(answered) * abs(accuracy - confidence)
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
def test_pooled_bins_are_those_of_all_images(one: list[tuple[float, bool]], two: list[tuple[float, bool]]) -> None:
    parts = [reliability(*(np.array(part) for part in zip(*half, strict=True))) for half in (one, two)]
    assert pooled(parts).ece() == pytest.approx(_ece(one + two), abs=1e-9)


@pytest.mark.parametrize("value", [math.nan, -0.1, 1.1, math.inf])
def test_a_confidence_that_is_none_names_its_cell(value: float) -> None:
    with pytest.raises(ValueError, match=r"adabn.*not between 0 and 1"):
        measure(result("adabn", wrong=[True], confidence=[value]))


def test_rounding_above_one_is_a_confidence() -> None:
    assert measure(result(wrong=[False], confidence=[1.000001])).ece == pytest.approx(0, abs=1e-3)


def test_figures_of_a_run() -> None:
    found = measure(result(wrong=[1, 0, 0, 1, 1], domain=[2, 0, 0, 2, 0], seconds=0.5, state_bytes=12))
    assert (found.images, found.state_bytes, found.images_per_s) == (5, 12, 10.0)
    assert found.error == pytest.approx(60)
    assert list(found.domain_errors) == [0, 2]
    assert found.domain_errors[0] == pytest.approx(100 / 3)
    assert found.domain_errors[2] == pytest.approx(100)
    assert found.ece == pytest.approx(50, abs=1e-4)


def test_no_time_is_no_speed() -> None:
    assert math.isnan(measure(result(seconds=0.0)).images_per_s)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="no images"):
        measure(result(wrong=[]))
    with pytest.raises(ValueError, match="no results"):
        measure_all([])
    with pytest.raises(ValueError, match="given twice"):
        measure_all([result(), result("bn"), result()])


def test_order_is_that_of_strategies_then_places() -> None:
    made = [
        result("z", "clean", seed=1),
        result("z", "clean"),
        result("z", "own"),
        result("z", "mixed", batch=16),
        result("z", "mixed", batch=4),
        result("source", "single", "sorted"),
        result("source", "single", "iid"),
    ]
    assert [one.cell[:5] for one in measure_all(made)] == [
        ("z", "mixed", "iid", 4, 0),
        ("z", "mixed", "iid", 16, 0),
        ("z", "clean", "iid", 4, 0),
        ("z", "clean", "iid", 4, 1),
        ("z", "own", "iid", 4, 0),
        ("source", "single", "iid", 4, 0),
        ("source", "single", "sorted", 4, 0),
    ]


def test_differences_pair_the_same_seed_and_leave_out_what_has_none() -> None:
    made = [
        result("source", seed=0, wrong=[1, 1, 0, 0]),
        result("source", seed=1, wrong=[1, 1, 1, 1]),
        result("bn", seed=0, wrong=[1, 0, 0, 0]),
        result("bn", seed=1, wrong=[1, 1, 0, 0]),
        result("bn", seed=2, wrong=[1, 1, 1, 1]),
        result("bn", batch=16),
    ]
    figures = measure_all(made)
    found = {cell[3:]: value for cell, value in differences(figures).items() if cell.strategy == "bn"}
    assert found == {(4, 0): -25.0, (4, 1): -50.0}
    _, four, sixteen = summarize(figures)
    assert (four.place, four.seeds) == (Place("continual", "iid", 4), 3)
    assert four.error == pytest.approx(statistics.fmean([25, 50, 100]))
    assert four.error_spread == pytest.approx(statistics.stdev([25, 50, 100]))
    assert four.difference == pytest.approx(-37.5)
    assert four.difference_spread == pytest.approx(statistics.stdev([-25, -50]))
    assert math.isnan(sixteen.difference)
    assert math.isnan(sixteen.error_spread)


def test_the_worst_place_is_the_furthest_above_source() -> None:
    made = [
        result("source", batch=1),
        result("bn", batch=1, wrong=[1, 1, 0, 0]),
        result("bn", batch=2, wrong=[1] * 4),
        result("source", batch=8, wrong=[1, 0, 0, 0]),
        result("bn", batch=8, wrong=[1, 1, 1, 0]),
    ]
    own = [one for one in summarize(measure_all(made)) if one.strategy == "bn"]
    found = worst(own)
    assert found is not None
    assert (found.place.batch, found.difference) == (8, 50.0)
    assert str(found.place) == "continual, iid, requests of 8"
    assert worst(own[1:2]) is None


@SLOW
@given(st.lists(st.one_of(st.floats(-5, 5), st.just(math.nan)), min_size=1, max_size=400), st.integers(2, 8))
def test_a_curve_is_the_mean_of_each_window(values: list[float], strides: int) -> None:
    found = running_mean(np.array(values), strides)
    stride = -(-len(values) // POINTS)
    window = min(strides * stride, len(values))
    for place, value in zip(found.position, found.value, strict=True):
        start = round(place - window / 2)
        shown = [v for v in values[start : start + window] if not math.isnan(v)]
        assert start % stride == 0
        assert (math.isnan(value) and not shown) or value == pytest.approx(statistics.fmean(shown), abs=1e-9)


@pytest.mark.parametrize("images", [100, 101, 333, 5000, 49_999])
def test_a_curve_has_fifty_to_a_hundred_points_over_the_whole_stream(images: int) -> None:
    found = running_mean(np.ones(images))
    assert 49 <= len(found.position) <= 100
    assert found.position[0] < 0.05 * images
    assert found.position[-1] > 0.93 * images


def test_error_over_a_stream_falls_where_it_does() -> None:
    found = error_curve(result(wrong=[True] * 400 + [False] * 400, domain=[0] * 400 + [1] * 400))
    assert set(found.value[found.position < 385]) == {100.0}
    assert set(found.value[found.position > 415]) == {0.0}


def test_curves_of_seeds_are_averaged_at_the_same_images() -> None:
    one, two = (running_mean(np.linspace(0, end, images)) for end, images in ((8, 800), (16, 1600)))
    found = mean_curve([one, two])
    np.testing.assert_allclose(found.value, found.position / 100, atol=0.06)
    assert found.position[-1] < 800


@SLOW
@given(st.lists(st.integers(0, 2), min_size=1, max_size=40))
def test_stretches_cover_the_stream(domains: list[int]) -> None:
    found = stretches(np.array(domains, np.int32))
    assert [part.domain for part in found for _ in range(part.start, part.end)] == domains
    assert all(a.end == b.start and a.domain != b.domain for a, b in pairwise(found))
    assert not stretches(np.array([0, 1] * 31, np.int32))


def test_a_whole_study_is_summarized() -> None:
    figures = measure_all(study())
    assert len(figures) == 72
    summaries = summarize(figures)
    assert len(summaries) == 36
    assert all(one.difference == 0 for one in summaries if one.strategy == "source")
