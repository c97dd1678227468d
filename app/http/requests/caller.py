"""Who calls, as far as sharing is concerned: the name of a key, or an address."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from starlette.types import Scope

KEY = "renorm.key"
"""Where a call's scope has the name of its key."""


def remember_key(scope: Scope, name: str) -> None:
    """The call was let pass for the key of that name."""
    scope[KEY] = name


def client_of(scope: Scope) -> str:
    """Who calls: one name for all calls with one key, or, without a key, from one address."""
    key: str | None = scope.get(KEY)
    if key is not None:
        return f"key {key!r}"
    client = scope.get("client")
    return address_of(client[0]) if client else ""


@lru_cache(4096)
def address_of(host: str) -> str:
    """An address as one client's: of IPv6 the network, of whose addresses every client has as many as it likes."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"address {host}"
    if address.version == 4:
        return f"address {address}"
    if address.ipv4_mapped is not None:
        return f"address {address.ipv4_mapped}"
    return f"network {ipaddress.ip_network((address, 64), strict=False)}"
