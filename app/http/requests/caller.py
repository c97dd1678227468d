"""Identity of the client for fair sharing: the name of its key, or its address."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from starlette.types import Scope

KEY = "renorm.key"
"""The entry of a call's scope that holds the name of its key."""


def remember_key(scope: Scope, name: str) -> None:
    """Store the name of the key that authorized the call."""
    scope[KEY] = name


def client_of(scope: Scope) -> str:
    """Return the client's name: one for all calls with one key or, without a key, from one address."""
    key: str | None = scope.get(KEY)
    if key is not None:
        return f"key {key!r}"
    client = scope.get("client")
    return address_of(client[0]) if client else ""


@lru_cache(4096)
def address_of(host: str) -> str:
    """Return the client's name for an address: of IPv6 its /64 network, all of which a client can have."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"address {host}"
    if address.version == 4:
        return f"address {address}"
    if address.ipv4_mapped is not None:
        return f"address {address.ipv4_mapped}"
    return f"network {ipaddress.ip_network((address, 64), strict=False)}"
