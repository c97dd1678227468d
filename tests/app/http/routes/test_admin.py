import json
from pathlib import Path
from typing import Any

import pytest

from app.auth.keys import new_key, write_keys
from tests.app.fakes import Client, refusal

KEY = "a long sécret key"
BEARER = {"Authorization": f"Bearer {KEY}".encode()}


@pytest.mark.parametrize(
    ("said", "scope"),
    [
        ({"params": {"all": "true"}}, (None, None)),
        ({"json": {"all": True}}, (None, None)),
        ({"json": {"stream": "a", "all": False}}, ("a", None)),
        ({"params": {"stream": "a"}, "json": {"stream": "a"}}, ("a", None)),
        ({"json": {"stream": "a"}}, ("a", None)),
        ({"json": {"strategy": "bn"}}, (None, "bn")),
        ({"json": {"stream": "a", "strategy": "bn"}}, ("a", "bn")),
        ({"params": {"stream": "a b"}}, ("a b", None)),
        ({"params": {"stream": "a"}, "json": {"strategy": "bn"}}, ("a", "bn")),
        ({"content": b'{"stream": "a"}'}, ("a", None)),
        (
            {
                "params": {"all": "true"},
                "content": b"",
                "headers": {"Content-Type": "application/x-www-form-urlencoded"},
            },
            (None, None),
        ),
    ],
)
def test_reset(said: dict[str, Any], scope: tuple[str | None, str | None]) -> None:
    client = Client()
    response = client.post("/v1/admin/reset", **said)
    assert response.status_code == 200, response.text
    assert response.json() == {"forgotten": 2, "stream": scope[0], "strategy": scope[1]}
    assert client.engine.resets == [scope]


@pytest.mark.parametrize(
    ("said", "location", "says"),
    [
        ({"json": {"steam": "a"}}, "steam", "the fields are stream, strategy"),
        ({"params": {"steam": "a"}}, "steam", "the fields are stream, strategy"),
        ({"params": {"stream": "a"}, "json": {"stream": "b"}}, "stream", "appears twice"),
        ({}, "all", "all=true"),
        ({"json": {}}, "all", "all=true"),
        ({"json": {"all": False}}, "all", "all=true"),
        ({"json": {"all": True, "stream": "a"}}, "all", "send one of them"),
        ({"json": {"all": "yes"}}, "all", "true or false"),
        ({"json": {"stream": None}}, "stream", "not null"),
        ({"json": {"strategy": None}}, "strategy", "not null"),
        ({"json": {"stream": ""}}, "stream", "1 to 128"),
        ({"params": {"stream": ""}}, "stream", "1 to 128"),
        ({"json": ["a"]}, "body", "JSON object"),
        ({"content": b"\xff"}, "body", "not UTF-8"),
        ({"content": b"stream=a"}, "body", "not valid JSON"),
    ],
)
def test_refused_resets_forget_nothing(said: dict[str, Any], location: str, says: str) -> None:
    client = Client()
    assert says in refusal(client.post("/v1/admin/reset", **said), 422, "invalid_field", location)
    assert client.engine.resets == []


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=b"])
def test_reset_reads_json_only(kind: str) -> None:
    client = Client()
    response = client.post("/v1/admin/reset", content=b'{"stream": "a"}', headers={"Content-Type": kind})
    assert "application/json" in refusal(response, 415, "unsupported_media_type", "body")
    assert client.engine.resets == []


def test_unknown_strategy() -> None:
    response = Client().post("/v1/admin/reset", json={"strategy": "unheard-of"})
    refusal(response, 422, "unknown_strategy", "strategy")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104
@pytest.mark.parametrize(
    "headers",
    [
        BEARER,
        {"Authorization": f"bearer   {KEY}".encode()},
        {"X-API-Key": KEY.encode()},
        {"X-API-Key": KEY.encode(), "Authorization": b"Basic x"},
        {"X-API-Key": KEY.encode(), "Authorization": b"Bearer of something else"},
        {**BEARER, "Origin": b"http://elsewhere.example"},
    ],
)
def test_the_key_opens(host: str, headers: dict[str, bytes]) -> None:
    client = Client(host=host, admin_key=KEY)
    assert client.post("/v1/admin/reset?all=true", headers=headers).status_code == 200
    assert client.engine.resets == [(None, None)]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104
@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "missing_key"),
        ({"Authorization": b"Basic " + KEY.encode()}, 401, "missing_key"),
        ({"Authorization": b"Bearer "}, 401, "missing_key"),
        ({"X-API-Key": b""}, 401, "missing_key"),
        ({"Authorization": b"Bearer wrong"}, 403, "forbidden"),
        ({"X-API-Key": KEY[:-1].encode()}, 403, "forbidden"),
        ({"X-API-Key": b"\xff\xfe"}, 403, "forbidden"),
    ],
)
def test_without_the_key_it_stays_shut(host: str, headers: dict[str, bytes], status: int, code: str) -> None:
    client = Client(host=host, admin_key=KEY)
    response = client.post("/v1/admin/reset?all=true", headers=headers)
    refusal(response, status, code)
    assert ("www-authenticate" in response.headers) is (status == 401)
    assert client.engine.resets == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "renorm.example"])  # noqa: S104
@pytest.mark.parametrize("headers", [{}, BEARER])
def test_beyond_loopback_a_key_must_be_set(host: str, headers: dict[str, bytes]) -> None:
    client = Client(host=host)
    assert "RENORM_ADMIN_KEY" in refusal(client.post("/v1/admin/reset?all=true", headers=headers), 403, "forbidden")
    assert client.engine.resets == []


def test_access_is_refused_before_the_body_is_looked_at() -> None:
    refusal(Client(host="0.0.0.0").post("/v1/admin/reset", content=b"garbage"), 403, "forbidden")  # noqa: S104


@pytest.mark.parametrize(
    ("origin", "host"),
    [("http://localhost:8000", "localhost:8000"), ("http://127.0.0.1", "127.0.0.1"), ("http://[::1]:9", "[::1]:9")],
)
def test_on_loopback_the_server_s_own_pages_may(origin: str, host: str) -> None:
    client = Client()
    assert client.post("/v1/admin/reset?all=true", headers={"Origin": origin, "Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://elsewhere.example", "localhost:8000"),
        ("http://localhost:3000", "localhost:8000"),
        ("http://localhost", "localhost:8000"),
        ("null", "localhost:8000"),
        ("", "localhost:8000"),
        ("http://[", "localhost:8000"),
        ("http://rebound.example:8000", "rebound.example:8000"),
    ],
)
def test_on_loopback_other_pages_may_not(origin: str, host: str) -> None:
    client = Client()
    response = client.post("/v1/admin/reset", headers={"Origin": origin, "Host": host}, content=json.dumps({}))
    words = "is not allowed" if host.startswith("rebound") else "other origins"
    assert words in refusal(response, 403, "forbidden")
    assert client.engine.resets == []


# DELETE, and who has forgotten what


def test_a_stream_is_forgotten_by_its_name() -> None:
    client = Client()
    response = client.request("DELETE", "/v1/streams/camera-7")
    assert response.json() == {"forgotten": 2, "stream": "camera-7", "strategy": None}
    assert client.request("DELETE", "/v1/streams/camera-7?strategy=bn").json()["strategy"] == "bn"
    assert client.engine.resets == [("camera-7", None), ("camera-7", "bn")]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/streams/camera-9", 404, "stream_not_found"),
        ("/v1/streams/%2E%2E", 422, "invalid_field"),
        ("/v1/streams/camera-7?strategy=", 422, "invalid_field"),
    ],
)
def test_impossible_deletion_is_refused(path: str, status: int, code: str) -> None:
    client = Client()
    response = client.request("DELETE", path)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert client.engine.resets == []


def test_forgetting_takes_the_scope_of_a_reset(tmp_path: Path) -> None:
    made = {name: new_key(name, [scope]) for name, scope in (("reader", "infer"), ("boss", "admin"))}  # type: ignore[list-item]
    write_keys(tmp_path / "keys.toml", [key for _, key in made.values()])
    client = Client(keys=tmp_path / "keys.toml")
    for name, status in (("reader", 403), ("boss", 200)):
        answer = client.request("DELETE", "/v1/streams/camera-7", headers={"X-API-Key": made[name][0]})
        assert answer.status_code == status, answer.text
    foreign = {"Origin": "https://elsewhere.example"}
    assert Client().request("DELETE", "/v1/streams/camera-7", headers=foreign).status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "says"),
    [
        (
            "POST",
            "/v1/admin/reset?stream=camera-7&strategy=bn",
            "reset of stream 'camera-7', strategy 'bn' by key 'boss'",
        ),
        ("POST", "/v1/admin/reset?all=true", "reset of all streams by key 'boss' from "),
        ("DELETE", "/v1/streams/camera-7", "reset of stream 'camera-7' by key 'boss' from "),
    ],
)
def test_the_log_says_who_has_forgotten_what(
    method: str, path: str, says: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret, key = new_key("boss", ["admin"])
    write_keys(tmp_path / "keys.toml", [key])
    with caplog.at_level("INFO", "renorm.server"):
        Client(keys=tmp_path / "keys.toml").request(method, path, headers={"X-API-Key": secret})
    assert says in caplog.text
    assert "2 states reset" in caplog.text
    assert secret not in caplog.text
