from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.speed.clock import Call, Case, measure, wall


class Work:
    """Calls that say how long they took, by a clock that only they move."""

    def __init__(self) -> None:
        self.now, self.calls = 0.0, ""

    def case(self, name: str, seconds: float) -> Case:
        def call() -> None:
            self.now += seconds
            self.calls += name

        return Case(name, call)

    def clock(self, call: Call, times: int) -> float:
        started = self.now
        for _ in range(times):
            call()
        return self.now - started


def quiet(_case: str) -> None: ...


def test_cases_take_turns_and_have_a_value_for_each_round() -> None:
    work, ticks = Work(), list[str]()
    found = measure([work.case("a", 1.0), work.case("b", 2.0)], 3, work.clock, 0.5, ticks.append)
    assert work.calls == "aabb" + 3 * "ab"
    assert ticks == list("ab" + 3 * "ab")
    assert found == {"a": [1.0] * 3, "b": [2.0] * 3}


def test_short_calls_are_repeated_until_a_sample_is_long_enough() -> None:
    work = Work()
    found = measure([work.case("a", 0.25), work.case("b", 4.0)], 1, work.clock, 1.0, quiet)
    assert work.calls == "aa" + "bb" + "aaaa" + "b"
    assert found == {"a": [0.25], "b": [4.0]}


def test_a_call_that_takes_no_time_is_no_division_by_zero() -> None:
    work = Work()
    assert measure([work.case("a", 0.0)], 2, work.clock, 1e-6, quiet) == {"a": [0.0, 0.0]}


@pytest.mark.parametrize("times", [0, 3])
def test_the_wall_clock_makes_every_call(times: int) -> None:
    made: list[int] = []
    call: Callable[[], object] = lambda: made.append(1)  # noqa: E731
    assert wall(call, times) >= 0
    assert len(made) == times
