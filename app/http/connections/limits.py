"""What connections may cost, in one frozen object that needs no HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from app.settings import Settings

MOST_CONNECTIONS = 10_000
"""Connections that are kept at most where descriptors would allow more: about 30 KB of memory each."""

SPARE_DESCRIPTORS = 16
"""Descriptors that are never given to a connection, so that files, decoders and the probes of others still get one."""


class Limits(NamedTuple):
    """Bounds of one server's connections; sizes in bytes, times in seconds, 0 for no bound on an address.

    ``step_bytes`` is what a body has to bring in each ``body_seconds``: by default about 550 bytes/s, which the slowest
    of networks carry. An answer that is not taken has the same time. ``linger_seconds`` is how long what a refused
    client still sends is read and thrown away, so that it gets to see the answer; ``grace_seconds`` how long a head
    that has begun to arrive may go on when the server is told to stop.
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
        """Seconds between two looks at a connection: how late a bound on time may be noticed."""
        return min(self.head_seconds, self.body_seconds) / 4


def limits_of(settings: Settings) -> Limits:
    """The bounds that the settings and the process's descriptors mean.

    Of the descriptors a quarter, or a half beside a gRPC port, is left for everything else.
    """
    descriptors = descriptor_limit()
    most = MOST_CONNECTIONS
    if descriptors is not None:
        share = descriptors // 2 if settings.grpc_port is not None else descriptors // 4
        most = min(most, max(16, descriptors - max(64, share)))
    connections = settings.max_connections or most
    given = settings.max_connections_per_address
    return Limits(
        head_bytes=settings.max_head_bytes,
        head_lines=settings.max_head_lines,
        head_seconds=settings.head_seconds,
        body_seconds=settings.body_seconds,
        connections=connections,
        per_address=max(1, connections // 2) if given is None else given,
        bodies=settings.max_bodies,
        keep_alive_seconds=settings.keep_alive_seconds,
        descriptors=descriptors,
    )


def descriptor_limit() -> int | None:
    """How many descriptors this process may have open, or None where nothing bounds them."""
    try:
        import resource  # noqa: PLC0415 - Windows has none
    except ModuleNotFoundError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft
