"""Recovery times against a slow reading of their definition, and streams made by hand."""

from __future__ import annotations

import math
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.evaluation.metrics import measure_all, summarize
from app.evaluation.recovery import WINDOW, Changes, measure_changes, recovery_time
from app.evaluation.types import PROTOCOLS
from tests.app.evaluation.made import result

segments = st.tuples(st.integers(2 * WINDOW, 320), st.integers(0, 2**32), st.floats(0, 1), st.floats(0, 1)).map(
    lambda made: np.random.default_rng(made[1]).random(made[0]) < np.linspace(made[2], made[3], made[0])
)


def _slow(wrong: list[bool]) -> int:
    half = len(wrong) // 2 // WINDOW * WINDOW
    best = min(fmean(wrong[i : i + half]) for i in range(len(wrong) - half + 1))
    return next(t for t in range(len(wrong)) if fmean(wrong[t : t + WINDOW]) <= best + 0.02 + 1e-9)


@settings(deadline=None, max_examples=60)
@given(segments)
def test_recovery_is_the_first_window_near_the_best_half(wrong: np.ndarray) -> None:
    time = recovery_time(wrong)
    assert time == _slow(wrong.tolist())
    assert 0 <= time <= len(wrong) - WINDOW, "every segment recovers, because its best half has a window as good"


@given(st.integers(0, 150), st.integers(150, 400))
def test_errors_of_the_first_images_alone_are_counted(errors: int, correct: int) -> None:
    wrong = np.arange(errors + correct) < errors
    assert recovery_time(wrong) == max(0, errors - 1), "the last one of them is within 2 points of 50 images"


@pytest.mark.parametrize(
    ("wrong", "images"),
    [
        ([0] * 100, 0),
        ([1] * 100, 0),
        ([1] * 64 + [0] * 136, 63),  # one error of 50 images is 2 points
        ([1] * 20 + [0] * 80, 19),
        ([1, 0] * 100, 0),
        ([0] * 150 + [1] * 150, 0),
        ([1] * 250 + [0] * 50, 216),  # the best half has 100 errors of 150: 34 of 50 are within 2 points
        ([0] * 50 + [1] * 50, 0),
        ([1] * 50 + [0] * 50, 49),
    ],
)
def test_recovery_of_segments_made_by_hand(wrong: list[int], images: int) -> None:
    assert recovery_time(np.array(wrong, np.bool_)) == images


def test_a_short_segment_has_no_recovery_time() -> None:
    with pytest.raises(ValueError, match="at least 100 images, not 99"):
        recovery_time(np.zeros(99, np.bool_))


BAD_START, GOOD = [1] * 30 + [0] * 70, [0] * 100


def test_the_start_of_a_stream_is_no_change_and_short_segments_are_left_out() -> None:
    wrong = [*BAD_START, *GOOD, *BAD_START, *[1] * 40]
    changes = measure_changes(result(wrong=wrong, domain=np.repeat([0, 1, 2, 3], [100, 100, 100, 40]).tolist()))
    assert changes[:2] == pytest.approx((29 / 2, 0.9 * 29))
    assert math.isnan(changes.first_visit)
    alone = measure_changes(result(wrong=BAD_START))
    assert all(map(math.isnan, alone))


def test_visits_of_a_domain_are_compared() -> None:
    wrong = [*BAD_START, *BAD_START, *GOOD, *GOOD, *GOOD, *([1] * 10 + [0] * 90)]
    domain = np.repeat([0, 1, 0, 1, 0, 1], 100).tolist()
    changes = measure_changes(result(protocol="recurring", wrong=wrong, domain=domain))
    assert changes == pytest.approx(Changes((29 + 9) / 5, 21.0, 30.0, 5.0))
    again = measure_changes(result(protocol="recurring", wrong=GOOD * 2))
    assert all(map(math.isnan, again)), "visits of a single domain cannot be told apart"


@pytest.mark.parametrize("protocol", sorted({*PROTOCOLS} - {"continual", "recurring", "gradual"}))
def test_other_protocols_have_no_changes(protocol: str) -> None:
    changes = measure_changes(result(protocol=protocol, wrong=[0] * 200, domain=[0] * 100 + [1] * 100))
    assert all(map(math.isnan, changes))


def test_summaries_are_means_over_seeds() -> None:
    domain = [0] * 100 + [1] * 100
    runs = [result(seed=seed, wrong=[*GOOD, *end], domain=domain) for seed, end in enumerate((BAD_START, GOOD))]
    (summary,) = summarize(measure_all(runs))
    assert summary.changes[:2] == (14.5, 14.5)
