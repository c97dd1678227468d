"""Fair turns: clients share equally, and so do the streams of a client."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Flow(NamedTuple):
    """The stream and client of a request. ``epoch`` counts earlier resets of more than one stream."""

    stream: Hashable = ""
    client: str = ""
    epoch: int = 0


class Shares:
    """Fair queueing of a resource in two levels, clients and their streams.

    After Goyal, Vin and Cheng (Start-time Fair Queuing, 1996): the next turn goes to the least usage, and a stream that
    begins to wait starts at the virtual time, so that nobody saves up turns.

    A stream belongs to the client that was first to ask for it, for as long as it has waiting requests.
    """

    def __init__(self) -> None:
        self._waiting: Counter[Hashable] = Counter()
        self._client: dict[Hashable, str] = {}
        self._clients = _Level()
        self._streams: dict[str, _Level] = {}

    def enter(self, flow: Flow) -> None:
        """Add a waiting request of a stream."""
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
        """Remove a waiting request. When the last of all leaves, every debt is forgotten."""
        self._waiting[stream] -= 1
        if self._waiting[stream]:
            return
        del self._waiting[stream]
        client = self._client.pop(stream)
        level = self._streams[client]
        level.leave(stream)
        if not level.usage:
            del self._streams[client]
            self._clients.leave(client)

    def charge(self, stream: Hashable, amount: float) -> None:
        """Charge a waiting stream for ``amount`` of the resource."""
        client = self._client[stream]
        self._clients.charge(client, amount)
        self._streams[client].charge(stream, amount)

    def rank(self, stream: Hashable) -> tuple[float, float]:
        """Return the sort key of a waiting stream: the smallest goes next."""
        client = self._client[stream]
        return self._clients.usage[client], self._streams[client].usage[stream]

    def in_turn(self, waiting: Mapping[Any, deque[T]]) -> Iterator[T]:
        """Yield the waiting items in the order of turns; the caller charges each one it takes before the next.

        A deque that is cleared meanwhile has no further turn. A stream that waits but is missing in ``waiting``,
        because it is not ready, saves up no turns.
        """
        for client in {self._client[stream] for stream in waiting}:
            self._clients.catch_up(client)
        queues: dict[str, list[tuple[float, int, Hashable]]] = {}
        for place, stream in enumerate(waiting):
            client = self._client[stream]
            self._streams[client].catch_up(stream)
            queues.setdefault(client, []).append((self._streams[client].usage[stream], place, stream))
        for queue in queues.values():
            heapq.heapify(queue)
        clients = [(self._clients.usage[client], place, client) for place, client in enumerate(queues)]
        heapq.heapify(clients)
        while clients:
            _, order, client = heapq.heappop(clients)
            _, place, stream = heapq.heappop(queues[client])
            yield waiting[stream].popleft()
            if waiting[stream]:
                heapq.heappush(queues[client], (self._streams[client].usage[stream], place, stream))
            if queues[client]:
                heapq.heappush(clients, (self._clients.usage[client], order, client))


class _Level:
    """The usage of each name of one level, and the virtual time: the usage that is due to each by now."""

    def __init__(self) -> None:
        self.usage: dict[Hashable, float] = {}
        # Names that left with more usage than was due, which counts again if they come back soon.
        self._debts: dict[Hashable, float] = {}
        self._virtual_time = self._largest_charge = 0.0

    def join(self, name: Hashable) -> None:
        self.usage[name] = max(self._debts.pop(name, 0.0), self._virtual_time)

    def leave(self, name: Hashable) -> None:
        usage = self.usage.pop(name)
        if usage > self._virtual_time and self.usage:
            self._debts[name] = usage
        if len(self._debts) > 2 * len(self.usage) + 64 or not self.usage:
            self._debts = {
                name: usage for name, usage in self._debts.items() if usage > self._virtual_time and self.usage
            }

    def charge(self, name: Hashable, amount: float) -> None:
        # Time advances with every turn: a crowd of new names cannot stop it, nor delay others.
        self._virtual_time = max(self._virtual_time, self.usage[name]) + amount / len(self.usage)
        self._largest_charge = max(self._largest_charge, amount)
        self.usage[name] += amount

    def catch_up(self, name: Hashable) -> None:
        # Where all are ready, none falls further behind than by the largest turn of another.
        self.usage[name] = max(self.usage[name], self._virtual_time - self._largest_charge)
