"""How long forwards are said to take, against those that were measured."""

from __future__ import annotations

import pytest

from app.serving.pace import Pace, images_through


def test_estimates_are_zero_before_the_first_forward() -> None:
    assert Pace().forward_s(10) == Pace().wait_s(10, 256) == 0


def test_a_full_forward_is_not_judged_by_small_ones() -> None:
    pace = Pace()
    for _ in range(50):
        pace.add_forward(1, 0.010)
        pace.add_forward(200, 0.200)
    assert pace.forward_s(1) == pytest.approx(0.010)
    assert pace.forward_s(255) == pytest.approx(0.255)
    # Of a size that was never seen the nearest known one tells.
    assert pace.forward_s(20) == pytest.approx(0.020)
    assert pace.wait_s(1024, 256) == pytest.approx(1.024)


def test_lessons_between_forwards_count() -> None:
    pace = Pace()
    for _ in range(50):
        pace.add_forward(10, 1.0)
        pace.add_lesson(2.0)
    assert pace.wait_s(100, 10) == pytest.approx(30, rel=0.2)
    for _ in range(50):
        pace.add_forward(10, 1.0)
    assert pace.wait_s(100, 10) == pytest.approx(10, rel=0.2)


def test_the_newest_forwards_weigh_most() -> None:
    pace = Pace()
    pace.add_forward(4, 40.0)
    for _ in range(30):
        pace.add_forward(4, 0.4)
    assert pace.forward_s(4) == pytest.approx(0.4, rel=0.3)


@pytest.mark.parametrize(("images", "others", "through"), [(5, [], 5), (5, [2, 100], 12), (1, [64], 2), (64, [1], 65)])
def test_streams_that_take_turns_are_through_together(images: int, others: list[int], through: int) -> None:
    assert images_through(images, others) == through
