"""The sockets of a server: bound before the model is loaded, so that a conflict fails at once."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack

BACKLOG = 2048
"""Connections that may wait to be accepted; those that come while the model is loaded wait too."""

_ABSENT = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def listen(host: str, port: int) -> list[socket.socket]:
    """Return a bound socket for each address of ``host`` (localhost often has two), all on one port.

    ``port`` 0 takes a free one. Of several addresses, those that this machine does not have are skipped.

    Raises:
        OSError: the name is unknown, the port is in use, or the address may not be used; see `listen_error`.
    """
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    with ExitStack() as on_failure:
        for family, (name, *_) in dict.fromkeys((family, place) for family, _, _, _, place in addresses):
            try:
                bound = _bind(family, str(name), sockets[0].getsockname()[1] if sockets else port)
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                absent = error
                continue
            sockets.append(on_failure.enter_context(bound))
        if not sockets and absent is not None:
            raise absent
        on_failure.pop_all()
    return sockets


def _bind(family: int, name: str, port: int) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            # A port with connections in TIME_WAIT counts as free.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((name, port))
        # At once, before the model is loaded: until one of them listens, two servers can bind the same port.
        bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound


def listen_error(error: OSError, host: str, port: int, option: str = "--port") -> str:
    """Return the message for a failed `listen`, with a remedy; ``option`` is the option of the port."""
    if isinstance(error, socket.gaierror):
        return f"--host {host}: unknown host name; use 127.0.0.1 for this machine only, 0.0.0.0 for all interfaces"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use: stop the other process, or choose another port with {option} (0: any)"
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"--host {host}: not an address of this machine; use 127.0.0.1 for this machine, 0.0.0.0 for all interfaces"
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"permission denied for port {port} of {host}: choose a port above 1023 with {option}"
    return f"cannot listen on port {port} of {host}: {error}"


def address(host: str, bound: socket.socket) -> str:
    """Return the URL of the server: reachable from other machines, where it listens to them."""
    name = _outbound_address() if host in {"0.0.0.0", "::", ""} else host  # noqa: S104
    return f"http://{f'[{name}]' if ':' in name and name[0] != '[' else name}:{bound.getsockname()[1]}"


def _outbound_address() -> str:
    """Return the address that this machine would send from; nothing is sent to find out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # of the block that documentation may use, which leads nowhere
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])
