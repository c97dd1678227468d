"""Choose which of the waiting requests share the next forward."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable

from torch import Tensor

from adapters import Key
from app.serving.pace import Pace
from app.serving.shares import Shares
from app.serving.streams import ResetScope
from app.serving.tickets import Ticket

EFFICIENT_IMAGES = 4
"""Images that are cheaper in one batch than one by one even for a large network on a small machine."""


class Room:
    """The room in one forward: images of one type, at most ``max_images``.

    The next request of every stream may join. Further requests of a stream may join while the forward is expected to
    take at most ``seconds``: the backlog of one stream must not delay the next request of another.
    """

    def __init__(self, max_images: int, seconds: float, pace: Pace) -> None:
        self._max_images, self._seconds, self._pace = max_images, seconds, pace
        self._images = 0
        self._first: Tensor | None = None
        self._streams: set[Hashable] = set()

    def try_add(self, ticket: Ticket) -> bool:
        """Add a request if it fits, and return whether it does. The first request always fits, however large."""
        images = ticket.images
        if images is None:
            return False
        total, further = self._images + len(images), ticket.key.stream in self._streams
        if self._first is None:
            self._first = images
        elif total > self._max_images or images.dtype != self._first.dtype:
            return False
        if further and total > EFFICIENT_IMAGES and self._pace.forward_s(total) > self._seconds:
            return False
        self._images = total
        self._streams.add(ticket.key.stream)
        return True


class BatchBuilder:
    """One pass over the queue in order of arrival that collects ready requests and keeps later ones from overtaking."""

    def __init__(self, learning: Iterable[Key]) -> None:
        # A state with a pending lesson is not ready for its next request, nor for a reset, which the lesson would undo.
        self._waiting: set[Key] = set(learning)
        self._ready: dict[Hashable, deque[Ticket]] = {}
        self._barriers: list[ResetScope] = []

    def add(self, ticket: Ticket) -> None:
        """Add the next request of the queue; if it is not ready, later requests of its state wait behind it."""
        if ticket.answer.done():  # its caller has left, and gives the place back in a moment
            return
        key, scope = ticket.key, ResetScope(stream=str(ticket.key.stream))
        earlier = self._ready.get(key.stream, ())
        is_blocked = key in self._waiting or any(barrier.covers(key) for barrier in self._barriers)
        if ticket.start or ticket.end:
            # It affects the stream's states of every strategy: all earlier requests must be done, or in its forward.
            is_blocked = is_blocked or any(scope.covers(waiting) for waiting in self._waiting)
            is_blocked = is_blocked or (ticket.start and len(earlier) > 0)
            self._barriers.append(scope)
        if is_blocked or ticket.images is None:
            self._waiting.add(key)
            return
        self._ready.setdefault(key.stream, deque()).append(ticket)
        # The explanation is of the state after this request, which a later one in the same forward would change.
        if ticket.has_lesson or ticket.explain:
            self._waiting.add(key)

    def try_reset(self, scope: ResetScope) -> bool:
        """Return whether every step ahead of a reset is done; if not, the reset blocks later requests."""
        ready = (ticket.key for tickets in self._ready.values() for ticket in tickets)
        stepping = any(scope.covers(key) for key in (*self._waiting, *ready))
        # Other resets, and requests that start or end a stream, drop states too: each must count its own.
        if stepping or any(_overlap(scope, barrier) for barrier in self._barriers):
            self._barriers.append(scope)
            return False
        return True

    def fill(self, room: Room, shares: Shares) -> list[Ticket]:
        """Return the requests of the next forward, in the order of their streams' turns. Ends the pass."""
        group: list[Ticket] = []
        for ticket in shares.in_turn(self._ready):
            if room.try_add(ticket):
                group.append(ticket)
                shares.charge(ticket.key.stream, ticket.count)
            else:
                self._ready[ticket.key.stream].clear()
        return group


def _overlap(scope: ResetScope, barrier: ResetScope) -> bool:
    """Return whether both scopes can cover the same state."""
    return all(a is None or b is None or a == b for a, b in zip(scope, barrier, strict=True))
