"""One server and one waiting place: properties of the frames that are answered, whatever the times."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load.deadline import queueing
from benchmarks.load.deadline.queueing import FrameCounts, serve_frames, simulate

FRAMES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12)), min_size=1, max_size=40)
"""Pairs of whole seconds: the pause before each frame, and its service. Small, so that moments coincide."""


def times(frames: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    arrivals = [sum(pause for pause, _ in frames[: number + 1]) for number in range(len(frames))]
    return arrivals, [service for _, service in frames]


@given(FRAMES)
def test_the_server_works_on_one_frame_at_a_time_and_never_rests_while_one_waits(frames: list[tuple[int, int]]) -> None:
    arrivals, services = times(frames)
    served = serve_frames(arrivals, services)
    for service in served:
        assert service.finish == service.start + services[service.frame]
    free = -math.inf
    for service in served:
        assert service.start == max(free, arrivals[service.frame])
        free = service.finish


@given(FRAMES)
def test_a_frame_is_dropped_only_for_a_newer_one_that_arrived_before_the_server_was_free(
    frames: list[tuple[int, int]],
) -> None:
    arrivals, services = times(frames)
    served = serve_frames(arrivals, services)
    assert served[-1].frame == len(frames) - 1, "none replaces the last one"
    assert [service.frame for service in served] == sorted({service.frame for service in served})
    for earlier, later in pairwise([None, *served]):
        first = 0 if earlier is None else earlier.frame + 1
        assert later is not None
        if later.frame > first:
            # All that were dropped between the two arrived while the server was busy, as did the one that won.
            assert earlier is not None
            assert arrivals[later.frame] <= earlier.finish


@given(FRAMES)
def test_a_frame_waits_for_at_most_the_rest_of_one_service(frames: list[tuple[int, int]]) -> None:
    arrivals, services = times(frames)
    for service in serve_frames(arrivals, services):
        assert service.start - arrivals[service.frame] <= max(services)


@given(st.lists(st.integers(0, 10), min_size=1, max_size=40), st.integers(0, 3))
def test_every_frame_is_answered_where_services_are_no_longer_than_the_interval(
    services: list[int], slack: int
) -> None:
    outcome = simulate(max(services) + slack, services, [True] * len(services))
    assert outcome == FrameCounts(len(services), len(services), len(services))
    assert outcome.utility == outcome.answered_share == outcome.accuracy == 1.0


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 200))
def test_constant_services_answer_as_many_frames_as_the_capacity_allows(interval: int, more: int, count: int) -> None:
    service = interval + more
    answered = simulate(interval, [service] * count, [True] * count).answered
    assert abs(answered - count * interval / service) <= 2


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=40), st.integers(0, 9))
def test_utility_is_the_share_answered_times_the_accuracy_of_answers(
    frames: list[tuple[int, bool]], interval: int
) -> None:
    services, correct = [service for service, _ in frames], [right for _, right in frames]
    outcome = simulate(interval, services, correct)
    assert 1 <= outcome.answered <= outcome.offered == len(frames)
    assert outcome.utility == pytest.approx(outcome.answered_share * outcome.accuracy)
    assert outcome.correct <= sum(correct)


def test_a_newer_frame_replaces_the_waiting_one() -> None:
    assert [service.frame for service in serve_frames([0, 1, 2, 3], [10, 10, 10, 10])] == [0, 3]


def test_at_the_moment_the_server_is_free_it_takes_the_waiting_frame_and_the_new_one_waits() -> None:
    assert [service.frame for service in serve_frames([0, 1, 2], [2, 2, 2])] == [0, 1, 2]


@pytest.mark.parametrize(
    ("arrivals", "services", "message"),
    [
        ([0, 1], [1], "as many services"),
        ([1, 0], [1, 1], "back in time"),
        ([math.nan, 0], [1, 1], "finite"),
        ([0], [-1], "at least 0"),
        ([0], [math.inf], "finite"),
    ],
)
def test_impossible_times_are_refused(arrivals: list[float], services: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        serve_frames(arrivals, services)


@pytest.mark.parametrize(
    ("interval", "services", "correct", "message"),
    [(1, [], [], "at least one"), (1, [1], [True, True], "as many"), (-1, [1], [True], "interval")],
)
def test_impossible_records_are_refused(
    interval: float, services: list[float], correct: list[bool], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        simulate(interval, services, correct)


def test_the_examples_run() -> None:
    assert [service.frame for service in serve_frames([0, 1, 2, 3, 4], [2.5] * 5)] == [0, 2, 4]
    assert queueing.simulate(1.0, [2.5] * 5, [True, True, False, True, True]) == FrameCounts(5, 3, 2)
