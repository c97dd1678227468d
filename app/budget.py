"""An amount of memory that is lent out, in the order in which it is asked for."""

from __future__ import annotations

import asyncio


class Budget:
    """What is lent at once is at most ``capacity``; who asks for more waits until some of it came back.

    Strictly in order, even where a small wish behind a large one would fit: a request waits for the earlier ones of its
    stream, so it must not hold what they still need. A wish beyond the capacity is granted when nothing else is lent.

    Used by the event loop's thread alone.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity, self.lent = capacity, 0
        # A dict for its order and for removal anywhere in constant time.
        self._waiting: dict[asyncio.Future[None], int] = {}

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def take(self, amount: int) -> None:
        """Borrow ``amount``, as soon as it is there; who is cancelled while waiting has borrowed nothing."""
        if not self._waiting and self._fits(amount):
            self.lent += amount
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[place] = amount
        try:
            await place
        except asyncio.CancelledError:
            self._waiting.pop(place, None)
            # Granted and cancelled in one turn of the loop, or gone from a place that others stand behind.
            self.give_back(0 if place.cancelled() else amount)
            raise

    def give_back(self, amount: int) -> None:
        """Return what was borrowed."""
        self.lent -= amount
        while self._waiting:
            place, wish = next(iter(self._waiting.items()))
            if not place.cancelled():
                if not self._fits(wish):
                    return
                self.lent += wish
                place.set_result(None)
            del self._waiting[place]

    def _fits(self, amount: int) -> bool:
        return self.lent == 0 or self.lent + amount <= self.capacity
