"""Who calls: one name for one key, or for one address."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from app.auth.keys import new_key, write_keys
from app.http.requests.caller import client_of, remember_key
from tests.app.fakes import Client
from tests.app.small import png

PNG = base64.b64encode(png(1)).decode()

ADDRESSES = {
    "ipv4": ("192.0.2.7", "address 192.0.2.7"),
    "ipv6": ("2001:db8:1:2:3:4:5:6", "network 2001:db8:1:2::/64"),
    "the same network": ("2001:db8:1:2:ffff::1", "network 2001:db8:1:2::/64"),
    "ipv4 in ipv6": ("::ffff:192.0.2.7", "address 192.0.2.7"),
    "a name": ("testclient", "address testclient"),
}


@pytest.mark.parametrize(("host", "name"), ADDRESSES.values(), ids=ADDRESSES)
def test_an_address_is_a_client_and_a_network_of_ipv6_is_one_too(host: str, name: str) -> None:
    assert client_of({"client": (host, 4711)}) == name
    assert client_of({"client": None}) == client_of({}) == ""


def test_a_key_counts_more_than_an_address() -> None:
    scope: dict[str, Any] = {"client": ("192.0.2.7", 4711)}
    remember_key(scope, "shop")
    assert client_of(scope) == "key 'shop'"


BODIES: dict[str, tuple[str, Any]] = {
    "v1": ("/v1/predict", {"images": [PNG]}),
    "lines": ("/v1/predict/stream", {"images": [PNG]}),
    "v2": (
        "/v2/models/fake-net/infer",
        {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [PNG]}]},
    ),
}


@pytest.mark.parametrize("door", list(BODIES))
@pytest.mark.parametrize("keyed", [False, True], ids=["by address", "by key"])
def test_every_door_tells_the_engine(door: str, keyed: bool, tmp_path: Path) -> None:
    path, body = BODIES[door]
    secret, key = new_key("shop", ["infer"])
    write_keys(tmp_path / "keys.toml", [key])
    client = Client(keys=tmp_path / "keys.toml") if keyed else Client()
    response = client.post(path, json=body, headers={"Authorization": f"Bearer {secret}"})
    assert response.status_code == 200, response.text
    assert [call.client for call in client.engine.calls] == ["key 'shop'" if keyed else "address 127.0.0.1"]
