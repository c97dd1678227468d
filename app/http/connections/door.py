"""Registry of one server's connections: their number, their addresses, and the idle ones that could make room."""

from __future__ import annotations

import asyncio
import ipaddress
import select
from collections import Counter
from typing import Protocol

from app.http.connections.limits import SPARE_DESCRIPTORS, ConnectionLimits
from app.http.connections.notices import Notices
from app.http.connections.refusals import NO_DESCRIPTORS, TOO_MANY_CONNECTIONS, TOO_MANY_OF_ADDRESS, Refusal

MAX_REFUSED = 64
"""Connections beyond the limit that still get a response; further ones are just closed."""


class Idle(Protocol):
    """A connection between two requests."""

    transport: asyncio.Transport

    def retire(self) -> bool:
        """Close it, unless data has just arrived; return whether it was closed."""


class Door:
    """Counts of connections, used by one event loop alone. An upgraded connection does not enter or leave again."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.notices = Notices()
        self.is_draining = False
        self.bodies = self.refused = 0
        self.idle: dict[Idle, None] = {}  # the longest idle first
        self._places: dict[asyncio.Transport, str] = {}
        self._addresses: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return the number of open connections."""
        return len(self._places)

    def enter(self, transport: asyncio.Transport) -> Refusal | None:
        """Count a connection, or return why it is refused. Idle ones are closed where that makes room."""
        limits, address = self.limits, network_of(transport)
        if limits.descriptors is not None and _descriptor(transport) >= limits.descriptors - SPARE_DESCRIPTORS:
            return NO_DESCRIPTORS
        if 0 < limits.per_address <= self._addresses[address] and not self._make_room(address):
            return TOO_MANY_OF_ADDRESS
        if len(self._places) >= limits.connections and not self._make_room(None):
            return TOO_MANY_CONNECTIONS
        self._places[transport] = address
        self._addresses[address] += 1
        return None

    def leave(self, transport: asyncio.Transport) -> None:
        """Forget a lost connection; one that has not entered, or has left, is ignored."""
        address = self._places.pop(transport, None)
        if address is None:
            return
        self._addresses[address] -= 1
        if self._addresses[address] == 0:
            del self._addresses[address]

    def _make_room(self, address: str | None) -> bool:
        for connection in list(self.idle):
            if address in (None, self._places.get(connection.transport)):
                del self.idle[connection]
                if connection.retire():
                    self.leave(connection.transport)
                    return True
        return False


def network_of(transport: asyncio.Transport) -> str:
    """Return the network that a connection counts for: its IPv4 address, or the /64 of its IPv6 address."""
    peer = transport.get_extra_info("peername")
    host = str(peer[0]) if isinstance(peer, tuple) and peer else ""
    if ":" not in host:
        return host
    return str(ipaddress.ip_network((host.partition("%")[0], 64), strict=False))


def has_arrived(transport: asyncio.Transport) -> bool:
    """Return whether the kernel holds bytes, or the end of the stream, that the event loop has not read yet."""
    descriptor = _descriptor(transport)
    if descriptor < 0:
        return False
    if not hasattr(select, "poll"):
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _descriptor(transport: asyncio.Transport) -> int:
    socket = transport.get_extra_info("socket")
    return -1 if socket is None else int(socket.fileno())
