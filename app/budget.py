"""An amount of something that is lent out, in fair turns."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import NamedTuple

from app.shares import Flow, Shares

NOBODY = Flow()


class _Place(NamedTuple):
    granted: asyncio.Future[None]
    amount: int
    epoch: int


class Budget:
    """What is lent at once is at most ``capacity``; who asks for more waits until some of it came back.

    Streams take turns, see `app.shares`, and those of one stream keep their order. Whose turn it is, is waited for even
    where a small wish of another would fit: else large ones would wait forever. No request gets anything ahead of one
    that came before a reset which it came after: it waits for that one, and must not hold what that one needs. A wish
    beyond the capacity is granted when nothing else is lent.

    Used by the event loop's thread alone.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity, self.lent = capacity, 0
        self._waiting: dict[Hashable, deque[_Place]] = {}
        self._shares = Shares()

    def __len__(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def lent_to(self, flow: Flow, amount: int) -> AsyncIterator[None]:
        """``amount`` for as long as the block lasts."""
        await self.take(amount, flow)
        try:
            yield
        finally:
            self.give_back(amount)

    async def take(self, amount: int, flow: Flow = NOBODY) -> None:
        """Borrow ``amount``, as soon as it is there; who is cancelled while waiting has borrowed nothing."""
        if not self._waiting and self._fits(amount):
            self.lent += amount
            return
        place = _Place(asyncio.get_running_loop().create_future(), amount, flow.epoch)
        self._shares.enter(flow)
        self._waiting.setdefault(flow.stream, deque()).append(place)
        try:
            await place.granted
        except asyncio.CancelledError:
            if place.granted.cancelled():
                self._remove(flow.stream, place)
                self._grant()
            else:  # granted and cancelled in one turn of the loop
                self.give_back(amount)
            raise

    def give_back(self, amount: int) -> None:
        """Return what was borrowed."""
        self.lent -= amount
        self._grant()

    def _grant(self) -> None:
        while self._waiting:
            stream = min(self._waiting, key=self._turn)
            place = self._waiting[stream][0]
            if not place.granted.cancelled():
                if not self._fits(place.amount):
                    return
                self.lent += place.amount
                self._shares.charge(stream, place.amount)
                place.granted.set_result(None)
            self._remove(stream, place)

    def _turn(self, stream: Hashable) -> tuple[int, float, float]:
        return self._waiting[stream][0].epoch, *self._shares.rank(stream)

    def _remove(self, stream: Hashable, place: _Place) -> None:
        places = self._waiting.get(stream, deque())
        if place not in places:  # it was passed over already
            return
        places.remove(place)
        if not places:
            del self._waiting[stream]
        self._shares.leave(stream)

    def _fits(self, amount: int) -> bool:
        return self.lent == 0 or self.lent + amount <= self.capacity
