"""Keys at the door: HTTP and WebSocket calls pass or are refused, before anything of them is read."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from app.access import needed
from app.keys import new_key, write_keys
from tests.app.fakes import Client, refusal

KEYED: dict[str, Any] = {"admin_key": "twelve chars"}
KEY = {"X-API-Key": "twelve chars"}


@pytest.fixture
def reader(tmp_path: Path) -> tuple[Client, dict[str, str]]:
    """A server whose only key is one for infer; that key."""
    secret, key = new_key("reader", ["infer"])
    write_keys(tmp_path / "keys.toml", [key])
    return Client(keys=tmp_path / "keys.toml"), {"Authorization": f"Bearer {secret}"}


def test_every_operation_asks_for_a_key_or_is_known_to_be_open() -> None:
    client = Client(**KEYED)
    paths = client.app.openapi()["paths"]
    assert {path for path in paths if needed(path) is None} <= {
        *("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")
    }
    for path, operations in paths.items():
        for method in operations:
            response = client.request(method, path)
            if needed(path) is None:
                assert response.status_code != 401, path
            else:
                assert "Bearer" in refusal(response, 401, "missing_key")
                assert response.headers["www-authenticate"] == "Bearer"


def test_pages_and_probes_are_open() -> None:
    client = Client(**KEYED)
    for path in ("/", "/docs", "/redoc", "/openapi.json", "/healthz", "/static-offline-docs/swagger-ui.css"):
        assert client.get(path).status_code in {200, 307}, path
    assert client.get("/readyz").status_code != 401
    assert "twelve" not in client.get("/openapi.json").text


def test_an_unknown_path_tells_nothing_without_a_key() -> None:
    client = Client(**KEYED)
    refusal(client.get("/v1/secret"), 401, "missing_key")
    refusal(client.get("/v1/secret", headers=KEY), 404, "not_found")


def test_a_key_for_infer_reads_but_does_not_reset(reader: tuple[Client, dict[str, str]]) -> None:
    client, key = reader
    assert client.get("/v1/streams", headers=key).status_code == 200
    assert "'reader'" in refusal(client.post("/v1/admin/reset", headers=key), 403, "forbidden")
    assert client.engine.resets == []


class Wire:
    """The server's side of one call: what the application sent, and whether it read."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.read = False

    async def receive(self) -> dict[str, Any]:
        self.read = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Any) -> None:
        self.sent.append(message)


def call(client: Client, **scope: Any) -> Wire:
    wire = Wire()
    base = {"headers": [], "query_string": b"", "http_version": "1.1", "root_path": "", "method": "POST"}
    asyncio.run(client.app({**base, **scope}, wire.receive, wire.send))
    return wire


def test_a_refused_body_is_not_read() -> None:
    wire = call(Client(**KEYED), type="http", path="/v1/predict")
    assert wire.sent[0]["status"] == 401
    assert not wire.read


LIVE = {"type": "websocket", "path": "/v1/streams/a/live", "scheme": "ws", "subprotocols": []}


def test_a_websocket_without_a_key_is_refused_with_a_reason_where_the_server_can_send_one() -> None:
    wire = call(Client(**KEYED), **LIVE, extensions={"websocket.http.response": {}})
    start, body = wire.sent
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert json.loads(body["body"])["code"] == "missing_key"


def test_elsewhere_it_is_closed() -> None:
    (closed,) = call(Client(**KEYED), **LIVE).sent
    assert (closed["type"], closed["code"]) == ("websocket.close", 1008)
    assert "needs a key" in closed["reason"]


@pytest.mark.parametrize(
    ("origin", "refused"), [(b"http://elsewhere.example", True), (b"http://localhost:8000", False)]
)
def test_foreign_pages_open_no_websocket_where_there_are_no_keys(origin: bytes, refused: bool) -> None:
    headers = [(b"host", b"localhost:8000"), (b"origin", origin)]
    path = "/v1/no-such-door"
    (closed,) = call(Client(), **{**LIVE, "path": path}, headers=headers).sent
    assert closed["type"] == "websocket.close"
    assert ("web pages" in closed.get("reason", "")) is refused


def test_listed_pages_may_make_admin_calls_where_there_are_no_keys() -> None:
    client = Client(cors_origins="https://lab.example")
    response = client.post("/v1/admin/reset", headers={"Origin": "https://lab.example"})
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "https://lab.example"


@pytest.mark.parametrize("settings", [{}, KEYED])
def test_openapi_says_which_calls_take_a_key(settings: dict[str, Any]) -> None:
    document = Client(**settings).get("/openapi.json").json()
    schemes = document["components"]["securitySchemes"]
    assert schemes["bearer"]["scheme"] == "bearer"
    assert schemes["header"]["name"] == "X-API-Key"
    either: list[dict[str, Any]] = [{"bearer": []}, {"header": []}]
    predict = document["paths"]["/v1/predict"]["post"]["security"]
    assert predict == (either if settings else [{}, *either]), "without keys they are optional"
    assert "security" not in document["paths"]["/healthz"]["get"]
