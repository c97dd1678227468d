"""Keys at the door: HTTP and WebSocket calls pass or are refused, before anything of them is read."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from app.auth.access import required_scope
from app.auth.keys import new_key, write_keys
from tests.app.fakes import Client, refusal

IMAGE = b"an image, as far as the door looks"

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
    assert {path for path in paths if required_scope(path) is None} <= {
        *("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")
    }
    for path, operations in paths.items():
        for method in operations:
            response = client.request(method, path)
            if required_scope(path) is None:
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


def test_websocket_without_a_key_is_closed_without_the_response_extension() -> None:
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
    assert ("other origins" in closed.get("reason", "")) is refused


def test_listed_pages_may_make_admin_calls_where_there_are_no_keys() -> None:
    client = Client(cors_origins="https://lab.example")
    response = client.post("/v1/admin/reset?all=true", headers={"Origin": "https://lab.example"})
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


# Who may touch which stream


def keyed(tmp_path: Path) -> tuple[Client, dict[str, dict[str, str]]]:
    made = {
        "all": new_key("all", ["infer"]),
        "a": new_key("a", ["infer"], streams=["camera-"]),
        "b": new_key("b", ["infer", "admin"], streams=["tenant-b-"]),
        "admin": new_key("admin", ["admin"]),
    }
    write_keys(tmp_path / "keys.toml", [key for _, key in made.values()])
    client = Client(keys=tmp_path / "keys.toml")
    return client, {name: {"X-API-Key": secret} for name, (secret, _) in made.items()}


def infer(stream: str, **parameters: bool) -> dict[str, Any]:
    return {
        "inputs": [{"name": "x", "datatype": "UINT8", "shape": [1, 4, 4, 3], "data": [0] * 48}],
        "parameters": {"sequence_id": stream, **parameters},
    }


@pytest.mark.parametrize(
    ("key", "stream", "flags", "status"),
    [
        ("all", "camera-7", {}, 200),
        ("all", "camera-7", {"sequence_start": True}, 403),
        ("all", "camera-7", {"sequence_end": True}, 403),
        ("a", "camera-7", {"sequence_start": True, "sequence_end": True}, 200),
        ("a", "tenant-b-1", {}, 403),
        ("admin", "tenant-b-1", {"sequence_end": True}, 200),
    ],
)
def test_sequences_begin_and_end_for_who_may_forget_them(
    key: str, stream: str, flags: dict[str, bool], status: int, tmp_path: Path
) -> None:
    client, headers = keyed(tmp_path)
    response = client.post("/v2/models/fake-net/infer", json=infer(stream, **flags), headers=headers[key])
    assert response.status_code == status, response.text
    assert len(client.engine.calls) == (status == 200)


@pytest.mark.parametrize("door", ["predict", "ndjson"])
@pytest.mark.parametrize(("key", "status"), [("all", 200), ("a", 200), ("b", 403)])
def test_a_bound_key_predicts_for_its_streams_alone(door: str, key: str, status: int, tmp_path: Path) -> None:
    client, headers = keyed(tmp_path)
    path = {"predict": "/v1/predict", "ndjson": "/v1/predict/stream"}[door]
    response = client.post(
        f"{path}?stream=camera-7", content=IMAGE, headers={**headers[key], "Content-Type": "image/png"}
    )
    assert response.status_code == status, response.text
    assert bool(client.engine.calls) is (status == 200)


@pytest.mark.parametrize(("key", "seen"), [("all", 1), ("a", 1), ("b", 0)])
def test_a_bound_key_sees_its_streams_alone(key: str, seen: int, tmp_path: Path) -> None:
    client, headers = keyed(tmp_path)
    assert len(client.get("/v1/streams", headers=headers[key]).json()["streams"]) == seen
    assert client.get("/v1/streams/camera-7", headers=headers[key]).status_code == (200 if seen else 403)


@pytest.mark.parametrize(("stream", "status"), [("tenant-b-1", 200), ("camera-7", 403), (None, 403)])
def test_a_bound_key_resets_its_streams_alone(stream: str | None, status: int, tmp_path: Path) -> None:
    client, headers = keyed(tmp_path)
    body = {"all": True} if stream is None else {"stream": stream}
    response = client.post("/v1/admin/reset", json=body, headers=headers["b"])
    assert response.status_code == status
    assert bool(client.engine.resets) is (status == 200)


@pytest.mark.parametrize("method", ["reset", "delete"])
def test_two_keys_are_not_more_than_each(method: str, tmp_path: Path) -> None:
    """One that may reset its own streams beside one that may predict for all."""
    client, headers = keyed(tmp_path)
    both = {**headers["b"], "Authorization": f"Bearer {headers['all']['X-API-Key']}"}
    if method == "reset":
        response = client.post("/v1/admin/reset", json={"stream": "camera-7"}, headers=both)
    else:
        response = client.request("DELETE", "/v1/streams/camera-7", headers=both)
    assert (response.status_code, client.engine.resets) == (403, [])


@pytest.mark.parametrize(("key", "status"), [("all", 200), ("a", 403), ("admin", 200)])
def test_metrics_name_streams_and_are_for_keys_of_all(key: str, status: int, tmp_path: Path) -> None:
    client, headers = keyed(tmp_path)
    assert client.get("/metrics", headers=headers[key]).status_code == status


@pytest.mark.parametrize("path", ["/v1/streams", "/metrics", "/v1/model", "/v2"])
def test_without_keys_nothing_is_told_under_a_foreign_name(path: str) -> None:
    response = Client().get(path, headers={"Host": "rebound.example:8000"})
    refusal(response, 403, "forbidden")
    assert Client().get(path).status_code == 200
    assert Client(allowed_hosts="rebound.example").get(path, headers={"Host": "rebound.example"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/predict?stream=s", "image/png"),
        ("/v1/predict?stream=s", "text/plain"),
        ("/v1/predict/stream?stream=s", "image/png"),
        ("/v2/models/fake-net/infer", "text/plain"),
        ("/v1/admin/reset?stream=s", "text/plain"),
    ],
)
def test_without_keys_no_foreign_page_moves_a_stream(path: str, kind: str) -> None:
    client = Client()
    headers = {"Origin": "https://elsewhere.example", "Content-Type": kind}
    refusal(client.post(path, content=IMAGE, headers=headers), 403, "forbidden")
    assert (client.engine.calls, client.engine.resets) == ([], [])
