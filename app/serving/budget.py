"""A limited amount of a resource, lent to streams in fair turns."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import NamedTuple

from app.serving.shares import Flow, Shares

NO_FLOW = Flow()


OF_STREAM, OF_CLIENT = 1, 4
"""The most that a stream, and a client, may hold, as multiples of the amount left for others: alone half, and four
fifths."""


class _Place(NamedTuple):
    granted: asyncio.Future[None]
    amount: int
    flow: Flow


class Budget:
    """At most ``capacity`` lent at a time; a request for more waits until enough was given back.

    Streams take turns, see `app.serving.shares`, and requests of one stream keep their order. The stream whose turn it
    is goes first even where a smaller request of another would fit: otherwise large requests would wait forever. A
    request that arrived after a reset never goes ahead of one that arrived before it: it waits for that one, and must
    not hold what that one needs. A request larger than the capacity is granted when nothing else is lent.

    With ``keeps_reserve`` nobody gets all: where a stream or client holds much already, its next request waits until
    less is lent, and requests of others go first. So a slow holder does not keep everybody out.

    Used by the event loop's thread alone.
    """

    def __init__(self, capacity: int, *, keeps_reserve: bool = False) -> None:
        self.capacity, self.lent, self._keeps_reserve = capacity, 0, keeps_reserve
        self._holdings: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, deque[_Place]] = {}
        self._shares = Shares()

    def __len__(self) -> int:
        """The number of waiting requests."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def lent_to(self, flow: Flow, amount: int) -> AsyncIterator[None]:
        """Lend ``amount`` for the duration of the block."""
        await self.take(amount, flow)
        try:
            yield
        finally:
            self.give_back(amount, flow)

    async def take(self, amount: int, flow: Flow = NO_FLOW) -> None:
        """Borrow ``amount`` as soon as it is available; a caller cancelled while waiting has borrowed nothing."""
        if not self._waiting and self._fits(amount) and self._leaves_enough(amount, flow):
            self._lend(amount, flow)
            return
        place = _Place(asyncio.get_running_loop().create_future(), amount, flow)
        self._shares.enter(flow)
        self._waiting.setdefault(flow.stream, deque()).append(place)
        if self._keeps_reserve and self._fits(amount):  # requests ahead of it may have to wait where this one need not
            self._grant()
        try:
            await place.granted
        except asyncio.CancelledError:
            if place.granted.cancelled():
                self._remove(flow.stream, place)
                self._grant()
            else:  # granted and cancelled in one turn of the loop
                self.give_back(amount, flow)
            raise

    def give_back(self, amount: int, flow: Flow = NO_FLOW) -> None:
        """Return what ``flow`` borrowed."""
        self._lend(-amount, flow)
        if self._waiting:
            self._grant()

    def _lend(self, amount: int, flow: Flow) -> None:
        self.lent += amount
        if self._keeps_reserve:
            for holder in _holders(flow):
                self._holdings[holder] += amount
                if not self._holdings[holder]:
                    del self._holdings[holder]

    def _grant(self) -> None:
        while (self.lent == 0 or self.lent < self.capacity) and (stream := self._next()) is not None:
            place = self._waiting[stream][0]
            if not place.granted.cancelled():
                if not self._fits(place.amount):
                    return
                self._lend(place.amount, place.flow)
                self._shares.charge(stream, place.amount)
                place.granted.set_result(None)
            self._remove(stream, place)

    def _next(self) -> Hashable | None:
        """Return the stream whose turn it is, None where no stream may borrow now."""
        stream = min(self._waiting, key=self._turn, default=None)
        return None if stream is None or self._has_enough(stream) else stream

    def _turn(self, stream: Hashable) -> tuple[int, bool, float, float]:
        return self._waiting[stream][0].flow.epoch, self._has_enough(stream), *self._shares.rank(stream)

    def _has_enough(self, stream: Hashable) -> bool:
        if not self._keeps_reserve:
            return False
        place = self._waiting[stream][0]
        return not place.granted.cancelled() and not self._leaves_enough(place.amount, place.flow)

    def _remove(self, stream: Hashable, place: _Place) -> None:
        places = self._waiting.get(stream, deque())
        if place not in places:  # it was skipped already
            return
        places.remove(place)
        if not places:
            del self._waiting[stream]
        self._shares.leave(stream)

    def _fits(self, amount: int) -> bool:
        return self.lent == 0 or self.lent + amount <= self.capacity

    def _leaves_enough(self, amount: int, flow: Flow) -> bool:
        if not self._keeps_reserve:
            return True
        free = self.capacity - self.lent - amount
        of_stream, of_client = map(self._holdings.__getitem__, _holders(flow))
        return (of_stream == 0 or of_stream + amount <= OF_STREAM * free) and (
            of_client == 0 or of_client + amount <= OF_CLIENT * free
        )


def _holders(flow: Flow) -> tuple[Hashable, Hashable]:
    return ("stream", flow.stream), ("client", flow.client)
