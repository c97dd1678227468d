"""One server and one waiting place: the frames that are answered when frames do not wait. Pure, without a clock.

The model is that of Tempora's discrete utility (arXiv 2602.06136) with a queue of one: frames arrive at fixed times
whether or not earlier ones are answered; one that arrives while the server works takes the waiting place; **the newer
frame replaces the one that waits there**, which is never answered. ``policy=drop_oldest&queue=1`` of
``WS /v1/streams/{stream}/live`` is the same queue.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple


class FrameService(NamedTuple):
    """The service of one frame: its number, and when the server began and finished with it, in seconds."""

    frame: int
    start: float
    finish: float


class FrameCounts(NamedTuple):
    """Counts of a stream of frames: offered, answered, and answered correctly."""

    offered: int
    answered: int
    correct: int

    @property
    def answered_share(self) -> float:
        """The share of the offered frames that were answered."""
        return self.answered / self.offered

    @property
    def accuracy(self) -> float:
        """The accuracy of the answers."""
        return self.correct / self.answered

    @property
    def utility(self) -> float:
        """Tempora's discrete utility: the share answered times the accuracy of the answers."""
        return self.correct / self.offered


def serve_frames(arrivals: Sequence[float], services: Sequence[float]) -> list[FrameService]:
    """Return the frames that get answered, in order, with the times of their service.

    ``arrivals`` are the times at which frames arrive, ``services`` the seconds that each would take, both ``[T]``. The
    server takes the waiting frame the moment it is free, also where another arrives at the same moment. The last frame
    is always answered, because none replaces it.

    Raises:
        ValueError: the lengths differ, arrivals go back in time, or a service is negative or not finite.

    >>> [service.frame for service in serve_frames([0, 1, 2, 3, 4], [2.5] * 5)]
    [0, 2, 4]
    """
    _check(arrivals, services)
    served: list[FrameService] = []
    waiting, free = -1, -math.inf  # the number of the waiting frame, and when the server is done with its work

    def begin(frame: int, start: float) -> float:
        served.append(FrameService(frame, start, start + services[frame]))
        return served[-1].finish

    for frame, arrival in enumerate(arrivals):
        if waiting >= 0 and free <= arrival:
            waiting, free = -1, begin(waiting, free)
        if free <= arrival:
            free = begin(frame, arrival)
        else:
            waiting = frame
    if waiting >= 0:
        begin(waiting, free)
    return served


def simulate(interval: float, services: Sequence[float], correct: Sequence[bool]) -> FrameCounts:
    """Return the outcome of frames every ``interval`` seconds, from an offline record of the same frames.

    ``services`` are the seconds that each frame takes, ``correct`` tells if its answer was correct in a run that
    answered all of them, both ``[T]``. An approximation where a strategy adapts: a dropped frame adapts nothing, so
    later answers may differ from the record's.

    Raises:
        ValueError: there are no frames, the lengths differ, or a time is negative or not finite.

    >>> simulate(1.0, [2.5] * 5, [True, True, False, True, True])
    FrameCounts(offered=5, answered=3, correct=2)
    """
    if not correct or len(correct) != len(services):
        raise ValueError(f"expected as many services as frames, at least one, not {len(services)} and {len(correct)}")
    if not (math.isfinite(interval) and interval >= 0):
        raise ValueError(f"the interval must be finite and at least 0, not {interval}")
    served = serve_frames([frame * interval for frame in range(len(services))], services)
    return FrameCounts(len(services), len(served), sum(bool(correct[service.frame]) for service in served))


def _check(arrivals: Sequence[float], services: Sequence[float]) -> None:
    if len(arrivals) != len(services):
        raise ValueError(f"expected as many services as arrivals, not {len(services)} and {len(arrivals)}")
    if not all(map(math.isfinite, arrivals)) or any(later < earlier for earlier, later in pairwise(arrivals)):
        raise ValueError("arrivals must be finite and must not go back in time")
    if not all(math.isfinite(service) and service >= 0 for service in services):
        raise ValueError("services must be finite and at least 0")
