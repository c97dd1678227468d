"""Whose turn it is: clients share alike, and the streams of a client do."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Flow(NamedTuple):
    """Whose a request is. ``epoch`` counts the resets of more than one stream that came before it."""

    stream: Hashable = ""
    client: str = ""
    epoch: int = 0


class Shares:
    """How much each stream that waits has had of something, and its client.

    Fair queueing in two levels, after Goyal, Vin and Cheng (Start-time Fair Queuing, 1996): next is whoever has had
    least, and who begins to wait is taken to have had as much as is due by then, so that nobody saves up turns.

    A stream belongs to the client that was first to ask for it, as long as anything of it waits.
    """

    def __init__(self) -> None:
        self._waiting: Counter[Hashable] = Counter()
        self._client: dict[Hashable, str] = {}
        self._clients = _Level()
        self._streams: dict[str, _Level] = {}

    def enter(self, flow: Flow) -> None:
        """One more of that stream waits."""
        stream = flow.stream
        self._waiting[stream] += 1
        if self._waiting[stream] > 1:
            return
        client = self._client[stream] = flow.client
        if client not in self._streams:
            self._streams[client] = _Level()
            self._clients.join(client)
        self._streams[client].join(stream)

    def leave(self, stream: Hashable) -> None:
        """One less waits. Where nothing waits any more there was enough for all, and nobody owes anything."""
        self._waiting[stream] -= 1
        if self._waiting[stream]:
            return
        del self._waiting[stream]
        client = self._client.pop(stream)
        level = self._streams[client]
        level.leave(stream)
        if not level.had:
            del self._streams[client]
            self._clients.leave(client)

    def charge(self, stream: Hashable, amount: float) -> None:
        """A stream that waits has had ``amount`` of what is shared."""
        client = self._client[stream]
        self._clients.charge(client, amount)
        self._streams[client].charge(stream, amount)

    def rank(self, stream: Hashable) -> tuple[float, float]:
        """The least of several streams' ranks is that of the next."""
        client = self._client[stream]
        return self._clients.had[client], self._streams[client].had[stream]

    def in_turn(self, waiting: Mapping[Any, deque[T]]) -> Iterator[T]:
        """What waits of each stream, in the order of turns; whoever takes one charges for it before the next.

        A deque that is cleared meanwhile has no further turn. Who waits and is not among them, because it is not ready,
        saves up no turns for the time when it is.
        """
        for client in {self._client[stream] for stream in waiting}:
            self._clients.catch_up(client)
        queues: dict[str, list[tuple[float, int, Hashable]]] = {}
        for place, stream in enumerate(waiting):
            client = self._client[stream]
            self._streams[client].catch_up(stream)
            queues.setdefault(client, []).append((self._streams[client].had[stream], place, stream))
        for queue in queues.values():
            heapq.heapify(queue)
        clients = [(self._clients.had[client], place, client) for place, client in enumerate(queues)]
        heapq.heapify(clients)
        while clients:
            _, order, client = heapq.heappop(clients)
            _, place, stream = heapq.heappop(queues[client])
            yield waiting[stream].popleft()
            if waiting[stream]:
                heapq.heappush(queues[client], (self._streams[client].had[stream], place, stream))
            if queues[client]:
                heapq.heappush(clients, (self._clients.had[client], order, client))


class _Level:
    """How much each of one level's names has had, and the virtual time: how much one of them should have had by now."""

    def __init__(self) -> None:
        self.had: dict[Hashable, float] = {}
        # Names that left after they had more than was their due, which they are to remember when they come back soon.
        self._debts: dict[Hashable, float] = {}
        self._now = self._largest = 0.0

    def join(self, name: Hashable) -> None:
        self.had[name] = max(self._debts.pop(name, 0.0), self._now)

    def leave(self, name: Hashable) -> None:
        had = self.had.pop(name)
        if had > self._now and self.had:
            self._debts[name] = had
        if len(self._debts) > 2 * len(self.had) + 64 or not self.had:
            self._debts = {name: had for name, had in self._debts.items() if had > self._now and self.had}

    def charge(self, name: Hashable, amount: float) -> None:
        # Time goes on with each turn, whoever takes it: a crowd of new names cannot hold it, and others, up.
        self._now = max(self._now, self.had[name]) + amount / len(self.had)
        self._largest = max(self._largest, amount)
        self.had[name] += amount

    def catch_up(self, name: Hashable) -> None:
        # Where all are ready, nobody falls further behind than by the largest turn of another.
        self.had[name] = max(self.had[name], self._now - self._largest)
