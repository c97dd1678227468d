"""Who may wait for a forward, and for how long those wait who come too late."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable
from typing import NamedTuple

from app.errors import BusyError, StreamBusyError
from app.serving.pace import Pace, shared
from app.serving.tickets import Ticket
from app.settings import Settings

LEFT_FREE = 64
"""Requests of one client that wait for each place that is free: it alone may take 64 of 65 places, two clients 128 of
129 together. So there is one for whoever comes next, however much a client sends."""


class QueueLimits(NamedTuple):
    """How much a forward takes, in images and seconds, and how many requests wait: in all, and of one stream."""

    images: int
    waiting: int = 1024
    waiting_per_stream: int = 256
    forward_s: float = math.inf

    @classmethod
    def of(cls, settings: Settings) -> QueueLimits:
        """As the settings say."""
        counts = settings.max_forward_images, settings.max_waiting, settings.max_waiting_per_stream
        return cls(*counts, settings.max_forward_seconds)


class Places:
    """Counts what waits, of whom."""

    def __init__(self, limits: QueueLimits, pace: Pace) -> None:
        self._limits, self._pace = limits, pace
        self._requests: Counter[Hashable] = Counter()
        self._images: Counter[Hashable] = Counter()
        self._of_client: Counter[str] = Counter()

    def check(self, ticket: Ticket) -> None:
        """Refuse a request for which there is no place.

        Raises:
            StreamBusyError, BusyError: as many wait as may, of this stream, or of this client or in all.
        """
        stream, total = ticket.key.stream, self._requests.total()
        waiting, of_client = self._requests[stream], self._of_client[ticket.client]
        if waiting >= self._limits.waiting_per_stream:
            raise StreamBusyError(
                f"{waiting} requests of stream '{stream}' wait already, as many as may",
                hint="send more slowly, or drop frames; RENORM_MAX_WAITING_PER_STREAM is the limit",
                location="stream",
                retry_after_s=self._wait_s(self._stream_images(stream)),
            )
        if total >= self._limits.waiting:
            raise BusyError(
                f"{total} requests wait already, as many as may",
                hint="send more slowly, or add a server; RENORM_MAX_WAITING is the limit",
                retry_after_s=self._wait_s(self._images.total()),
            )
        if of_client >= LEFT_FREE * (self._limits.waiting - total):
            raise BusyError(
                f"{of_client} requests of this client wait already, and the {self._limits.waiting - total} places that "
                "are left are for others",
                hint="send more slowly, or add a server; RENORM_MAX_WAITING is the limit of all clients together",
                retry_after_s=self._wait_s(self._images.total()),
            )

    def add(self, ticket: Ticket) -> None:
        """One more waits."""
        stream = ticket.key.stream
        self._requests[stream] += 1
        self._images[stream] += ticket.count
        self._of_client[ticket.client] += 1

    def remove(self, ticket: Ticket) -> None:
        """One less waits."""
        stream = ticket.key.stream
        self._images[stream] -= ticket.count
        self._requests[stream] -= 1
        if not self._requests[stream]:
            del self._requests[stream], self._images[stream]
        self._of_client[ticket.client] -= 1
        if not self._of_client[ticket.client]:
            del self._of_client[ticket.client]

    def _stream_images(self, stream: Hashable) -> int:
        """How many images are through when those of ``stream`` are."""
        return shared(self._images[stream], (count for other, count in self._images.items() if other != stream))

    def _wait_s(self, images: int) -> float:
        return self._pace.wait_s(images, self._limits.images)
