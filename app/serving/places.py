"""Admission to the queue: limits on waiting requests, and the retry time of refused ones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable
from typing import NamedTuple

from app.errors import BusyError, StreamBusyError
from app.serving.pace import Pace, images_through
from app.serving.tickets import Ticket
from app.settings import Settings

REQUESTS_PER_FREE_PLACE = 64
"""Waiting requests of one client per free place: one client may take 64 of 65 places, two clients 128 of 129 together.
So there is a place for a new client, however much another sends."""


class QueueLimits(NamedTuple):
    """Limits on a forward, in images and seconds, and on waiting requests, in all and of one stream."""

    images: int
    waiting: int = 1024
    waiting_per_stream: int = 256
    forward_s: float = math.inf

    @classmethod
    def of(cls, settings: Settings) -> QueueLimits:
        """Return the limits of the settings."""
        counts = settings.max_forward_images, settings.max_waiting, settings.max_waiting_per_stream
        return cls(*counts, settings.max_forward_seconds)


class Places:
    """Counts waiting requests and images by stream and by client."""

    def __init__(self, limits: QueueLimits, pace: Pace) -> None:
        self._limits, self._pace = limits, pace
        self._requests: Counter[Hashable] = Counter()
        self._images: Counter[Hashable] = Counter()
        self._of_client: Counter[str] = Counter()

    def check(self, ticket: Ticket) -> None:
        """Check that there is a place for a request.

        Raises:
            StreamBusyError, BusyError: the queue is full: of this stream, for this client or in all.
        """
        stream, total = ticket.key.stream, self._requests.total()
        waiting, of_client = self._requests[stream], self._of_client[ticket.client]
        if waiting >= self._limits.waiting_per_stream:
            raise StreamBusyError(
                f"the queue of stream '{stream}' is full ({waiting} waiting)",
                hint="send more slowly, or drop frames; the limit is RENORM_MAX_WAITING_PER_STREAM",
                location="stream",
                retry_after_s=self._wait_s(self._stream_images(stream)),
            )
        if total >= self._limits.waiting:
            raise BusyError(
                f"the request queue is full ({total} waiting)",
                hint="send more slowly, or add a server; the limit is RENORM_MAX_WAITING",
                retry_after_s=self._wait_s(self._images.total()),
            )
        if of_client >= REQUESTS_PER_FREE_PLACE * (self._limits.waiting - total):
            raise BusyError(
                f"the request queue is full for this client ({of_client} waiting); the {self._limits.waiting - total} "
                "free places are for others",
                hint="send more slowly, or add a server; the limit for all clients together is RENORM_MAX_WAITING",
                retry_after_s=self._wait_s(self._images.total()),
            )

    def add(self, ticket: Ticket) -> None:
        """Count a waiting request."""
        stream = ticket.key.stream
        self._requests[stream] += 1
        self._images[stream] += ticket.count
        self._of_client[ticket.client] += 1

    def remove(self, ticket: Ticket) -> None:
        """Stop counting a waiting request."""
        stream = ticket.key.stream
        self._images[stream] -= ticket.count
        self._requests[stream] -= 1
        if not self._requests[stream]:
            del self._requests[stream], self._images[stream]
        self._of_client[ticket.client] -= 1
        if not self._of_client[ticket.client]:
            del self._of_client[ticket.client]

    def _stream_images(self, stream: Hashable) -> int:
        """Return the images processed until those of ``stream`` are."""
        return images_through(self._images[stream], (count for name, count in self._images.items() if name != stream))

    def _wait_s(self, images: int) -> float:
        return self._pace.wait_s(images, self._limits.images)
