"""Keys of one server, as tenants hold them: some bound to streams, some not. The fake engine remembers ``camera-7``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from app.auth.keys import new_key, write_keys
from tests.app.fakes import Client

OWN, FOREIGN = "tenant-b-1", "camera-7"
"""A stream of the keys ``b`` and ``b-admin``, and one that is another tenant's."""


class Tenants(NamedTuple):
    """A server, and its keys by their names."""

    client: Client
    keys: dict[str, str]

    def headers(self, name: str) -> dict[str, str]:
        return {"x-api-key": self.keys[name]}

    def metadata(self, name: str) -> tuple[tuple[str, str], ...]:
        """The same for gRPC."""
        return (("x-api-key", self.keys[name]),)


def written_keys(path: Path) -> dict[str, str]:
    """A file of keys: for all streams, for those of tenants a and b, the latter of scope admin too, and for admins."""
    made = {
        "all": new_key("all", ["infer"]),
        "a": new_key("a", ["infer"], streams=["camera-*"]),
        "b": new_key("b", ["infer"], streams=["tenant-b-"]),
        "b-admin": new_key("b-admin", ["admin"], streams=["tenant-b-"]),
        "admin": new_key("admin", ["admin"]),
    }
    write_keys(path, [key for _, key in made.values()])
    return {name: secret for name, (secret, _) in made.items()}


def tenants(tmp_path: Path, **settings: Any) -> Tenants:
    """A server in process with those keys."""
    path = tmp_path / "keys.toml"
    keys = written_keys(path)
    return Tenants(Client(keys=path, **settings), keys)
