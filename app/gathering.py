"""Which of the waiting requests share the next forward."""

from __future__ import annotations

from collections.abc import Iterable

from adapters import Key
from app.streams import Scope
from app.tickets import Ticket


class Gathering:
    """A walk along the queue that fills one forward, and knows what must not be overtaken."""

    def __init__(self, most: int, learning: Iterable[Key]) -> None:
        self.group: list[Ticket] = []
        self._most, self._images = most, 0
        # Whoever has a lesson to learn is not ready for its next request, nor for a reset, which would be undone.
        self._waiting: set[Key] = set(learning)
        self._barriers: list[Scope] = []

    def takes(self, ticket: Ticket) -> bool:
        """Whether the next in the queue goes into the forward; if not, what comes later does not overtake it."""
        if ticket.answer.done():  # its caller has gone, and gives the place back in a moment
            return False
        scope = Scope(stream=str(ticket.key.stream))
        behind = ticket.key in self._waiting or any(known.covers(ticket.key) for known in self._barriers)
        if ticket.start or ticket.end:
            # It touches the stream's states with every strategy: all that came before it must be through, or with it.
            behind = behind or any(scope.covers(key) for key in self._waiting)
            behind = behind or (ticket.start and any(scope.covers(other.key) for other in self.group))
            self._barriers.append(scope)
        if behind or not self._fits(ticket):
            self._waiting.add(ticket.key)
            return False
        self.group.append(ticket)
        if ticket.learns:
            self._waiting.add(ticket.key)
        return True

    def clear_for(self, scope: Scope) -> bool:
        """Whether nothing that came before a reset is still to be stepped; if not, it holds up what comes later."""
        stepping = any(scope.covers(key) for key in (*self._waiting, *(ticket.key for ticket in self.group)))
        # Other resets, and requests that start or end a stream, forget too: each is to count what it has forgotten.
        if stepping or any(_meet(scope, known) for known in self._barriers):
            self._barriers.append(scope)
            return False
        return True

    def _fits(self, ticket: Ticket) -> bool:
        images = ticket.images
        if images is None:
            return False
        if self.group:
            first = self.group[0].images
            # One forward takes one type: pixels, or inputs that clients prepared.
            if self._images + len(images) > self._most or (first is not None and first.dtype != images.dtype):
                return False
        self._images += len(images)
        return True


def _meet(one: Scope, other: Scope) -> bool:
    """Whether both may cover the same state."""
    return all(a is None or b is None or a == b for a, b in zip(one, other, strict=True))
