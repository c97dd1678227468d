"""Limits of connections, in one immutable object without HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from app.settings import Settings

MAX_CONNECTIONS = 10_000
"""The most connections where descriptors would allow more: about 30 KB of memory each."""

SPARE_DESCRIPTORS = 16
"""Descriptors that no connection gets, so that files, decoders and health probes still do."""


class ConnectionLimits(NamedTuple):
    """Bounds of one server's connections; sizes in bytes, times in seconds, 0 for no bound on an address.

    At least ``step_bytes`` of a body must arrive in each ``body_seconds``: by default about 550 bytes/s, which the
    slowest networks carry. A response that the client does not read has the same time. ``linger_seconds`` is the time
    for which the input of a refused client is read and discarded, so that it can read the response; ``grace_seconds``
    the time to complete a head that has begun to arrive when the server stops.
    """

    head_bytes: int = 65_536
    head_lines: int = 100
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    step_bytes: int = 16_384
    connections: int = 768
    per_address: int = 384
    bodies: int = 512
    pipelined: int = 16
    keep_alive_seconds: float = 75.0
    linger_seconds: float = 2.0
    grace_seconds: float = 1.0
    descriptors: int | None = None

    @property
    def tick(self) -> float:
        """Seconds between two checks of a connection, the most by which a time limit may be exceeded."""
        return min(self.head_seconds, self.body_seconds) / 4


def limits_of(settings: Settings) -> ConnectionLimits:
    """Return the limits that follow from the settings and the process's file descriptors.

    Of the descriptors a quarter, or a half beside a gRPC port, is left for everything else.
    """
    descriptors = descriptor_limit()
    maximum = MAX_CONNECTIONS
    if descriptors is not None:
        share = descriptors // 2 if settings.grpc_port is not None else descriptors // 4
        maximum = min(maximum, max(16, descriptors - max(64, share)))
    connections = settings.max_connections or maximum
    per_address = settings.max_connections_per_address
    return ConnectionLimits(
        head_bytes=settings.max_head_bytes,
        head_lines=settings.max_head_lines,
        head_seconds=settings.head_seconds,
        body_seconds=settings.body_seconds,
        connections=connections,
        per_address=max(1, connections // 2) if per_address is None else per_address,
        bodies=settings.max_bodies,
        keep_alive_seconds=settings.keep_alive_seconds,
        descriptors=descriptors,
    )


def descriptor_limit() -> int | None:
    """Return the most file descriptors that this process may open, or None without a limit."""
    try:
        import resource  # noqa: PLC0415 - Windows has none
    except ModuleNotFoundError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft
