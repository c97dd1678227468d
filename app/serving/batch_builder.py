"""Which of the waiting requests share the next forward."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable

from torch import Tensor

from adapters import Key
from app.serving.pace import Pace
from app.serving.shares import Shares
from app.serving.streams import ResetScope
from app.serving.tickets import Ticket

EFFICIENT = 4
"""Images that are cheaper together than one by one even where the network is large and the machine small."""


class Room:
    """How much one forward takes: images of one type, at most ``most``.

    Each stream's next request is welcome. Further ones of a stream are as long as the forward takes ``seconds`` at
    most: what waits of one stream is not to hold up the next request of another.
    """

    def __init__(self, most: int, seconds: float, pace: Pace) -> None:
        self._most, self._seconds, self._pace = most, seconds, pace
        self._images = 0
        self._first: Tensor | None = None
        self._streams: set[Hashable] = set()

    def try_add(self, ticket: Ticket) -> bool:
        """Whether a request goes into the forward. The first one does, however large it is."""
        images = ticket.images
        if images is None:
            return False
        total, further = self._images + len(images), ticket.key.stream in self._streams
        if self._first is None:
            self._first = images
        elif total > self._most or images.dtype != self._first.dtype:
            return False
        if further and total > EFFICIENT and self._pace.forward_s(total) > self._seconds:
            return False
        self._images = total
        self._streams.add(ticket.key.stream)
        return True


class BatchBuilder:
    """A walk along the queue, in the order of arrival, that finds what may go and knows what must not be overtaken."""

    def __init__(self, learning: Iterable[Key]) -> None:
        # Whoever has a lesson to learn is not ready for its next request, nor for a reset, which would be undone.
        self._waiting: set[Key] = set(learning)
        self._ready: dict[Hashable, deque[Ticket]] = {}
        self._barriers: list[ResetScope] = []

    def add(self, ticket: Ticket) -> None:
        """Take up the next of the queue; if it is not ready, what comes later does not overtake it."""
        if ticket.answer.done():  # its caller has gone, and gives the place back in a moment
            return
        key, scope = ticket.key, ResetScope(stream=str(ticket.key.stream))
        before = self._ready.get(key.stream, ())
        behind = key in self._waiting or any(known.covers(key) for known in self._barriers)
        if ticket.start or ticket.end:
            # It touches the stream's states with every strategy: all that came before it must be through, or with it.
            behind = behind or any(scope.covers(other) for other in self._waiting)
            behind = behind or (ticket.start and len(before) > 0)
            self._barriers.append(scope)
        if behind or ticket.images is None:
            self._waiting.add(key)
            return
        self._ready.setdefault(key.stream, deque()).append(ticket)
        if ticket.learns:
            self._waiting.add(key)

    def clear_for(self, scope: ResetScope) -> bool:
        """Whether nothing that came before a reset is still to be stepped; if not, it holds up what comes later."""
        ready = (ticket.key for tickets in self._ready.values() for ticket in tickets)
        stepping = any(scope.covers(key) for key in (*self._waiting, *ready))
        # Other resets, and requests that start or end a stream, forget too: each is to count what it has forgotten.
        if stepping or any(_meet(scope, known) for known in self._barriers):
            self._barriers.append(scope)
            return False
        return True

    def fill(self, room: Room, shares: Shares) -> list[Ticket]:
        """The next forward's requests, in the order of their streams' turns. Ends the walk."""
        group: list[Ticket] = []
        for ticket in shares.in_turn(self._ready):
            if room.try_add(ticket):
                group.append(ticket)
                shares.charge(ticket.key.stream, ticket.count)
            else:
                self._ready[ticket.key.stream].clear()
        return group


def _meet(one: ResetScope, other: ResetScope) -> bool:
    """Whether both may cover the same state."""
    return all(a is None or b is None or a == b for a, b in zip(one, other, strict=True))
