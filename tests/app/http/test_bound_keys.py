"""Keys that are bound to streams: no door forgets them, and none tells of the streams of others."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from app.auth import keys as key_files
from app.auth.keys import read_keys, write_keys
from tests.app.fakes import Client, refusal
from tests.app.http.cameras import Camera, play
from tests.app.tenants import FOREIGN, OWN, tenants, written_keys

IMAGE = b"an image, as far as the door looks"


def tensor(**parameters: Any) -> dict[str, Any]:
    return {
        "inputs": [{"name": "x", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": [0] * 12}],
        "parameters": parameters,
    }


def raw(path: str, stream: str) -> dict[str, Any]:
    return {"path": path, "params": {"stream": stream}, "content": IMAGE, "headers": {"Content-Type": "image/png"}}


def as_json(path: str, stream: str) -> dict[str, Any]:
    return {"path": path, "json": {"images": [base64.b64encode(IMAGE).decode()], "stream": stream}}


def form(path: str, stream: str) -> dict[str, Any]:
    return {"path": path, "data": {"stream": stream}, "files": {"files": ("a.png", IMAGE, "image/png")}}


def named_by_header(path: str, stream: str, name: str) -> dict[str, Any]:
    return {"path": path, "content": IMAGE, "headers": {"Content-Type": "image/png", name: stream}}


PREDICT, LINES, INFER = "/v1/predict", "/v1/predict/stream", "/v2/models/fake-net/infer"
VERSION = "/v2/models/fake-net/versions/1/infer"


def doors(stream: str) -> dict[str, dict[str, Any]]:
    """Every way in which an image of a stream can be sent over HTTP."""
    return {
        **{f"{path} raw": raw(path, stream) for path in (PREDICT, LINES)},
        **{f"{path} JSON": as_json(path, stream) for path in (PREDICT, LINES)},
        **{f"{path} form": form(path, stream) for path in (PREDICT, LINES)},
        **{
            f"{path} {name}": named_by_header(path, stream, name)
            for path in (PREDICT, LINES)
            for name in ("X-Stream-Id", "X-Session-Id")
        },
        **{
            f"{path} {name}": {"path": path, "json": tensor(**{name: stream})}
            for path in (INFER, VERSION)
            for name in ("sequence_id", "renorm_stream")
        },
        **{
            f"{path} by header": {"path": path, "json": tensor(), "headers": {"X-Stream-Id": stream}}
            for path in (INFER, VERSION)
        },
    }


@pytest.mark.parametrize("key", ["b", "b-admin"])
@pytest.mark.parametrize("door", doors(OWN))
def test_every_door_lets_a_bound_key_touch_its_own_streams_alone(door: str, key: str, tmp_path: Path) -> None:
    here = tenants(tmp_path)

    def send(stream: str) -> Any:
        said = dict(doors(stream)[door])
        headers = {**said.pop("headers", {}), **here.headers(key)}
        return here.client.post(said.pop("path"), headers=headers, **said)

    for stream in (FOREIGN, "tenant-b", "TENANT-B-1", "x-tenant-b-1"):
        assert f"is not for stream '{stream}'" in refusal(send(stream), 403, "forbidden")
    assert not here.client.engine.calls
    assert send(OWN).status_code == 200
    assert [(call.stream, call.client) for call in here.client.engine.calls] == [(OWN, f"key '{key}'")]


@pytest.mark.parametrize("path", [PREDICT, LINES, INFER, VERSION])
def test_a_call_that_names_no_stream_is_of_one_that_no_bound_key_is_for(path: str, tmp_path: Path) -> None:
    here = tenants(tmp_path)
    said: dict[str, Any] = {"json": tensor()} if path.startswith("/v2") else {"content": IMAGE}
    response = here.client.post(path, headers={"Content-Type": "image/png", **here.headers("b")}, **said)
    assert "'default'" in refusal(response, 403, "forbidden")
    assert not here.client.engine.calls


@pytest.mark.parametrize("path", [INFER, VERSION])
@pytest.mark.parametrize("flag", ["sequence_start", "sequence_end"])
@pytest.mark.parametrize(
    ("key", "may"), [("all", False), ("a", False), ("b", True), ("b-admin", True), ("admin", True)]
)
def test_sequences_forget_under_every_path_for_the_same_keys(
    path: str, flag: str, key: str, may: bool, tmp_path: Path
) -> None:
    here = tenants(tmp_path)
    response = here.client.post(path, json=tensor(sequence_id=OWN, **{flag: True}), headers=here.headers(key))
    if may:
        assert response.status_code == 200
    else:
        refusal(response, 403, "forbidden")
    assert len(here.client.engine.calls) == may


def operations() -> list[tuple[str, str]]:
    document = Client().app.openapi()
    return [(method, path) for path, methods in document["paths"].items() for method in methods]


@pytest.mark.parametrize("key", ["b", "b-admin"])
@pytest.mark.parametrize(("method", "path"), operations())
def test_no_answer_tells_a_bound_key_of_the_streams_of_others(method: str, path: str, key: str, tmp_path: Path) -> None:
    """Whatever is described, asked in the plainest way: the fake engine remembers one stream, another tenant's."""
    here = tenants(tmp_path)
    target = path.format(stream=OWN, name="adabn", model="fake-net", version="1")
    response = here.client.request(method, target, headers=here.headers(key))
    assert FOREIGN not in response.text
    assert not here.client.engine.resets or target.endswith(OWN)
    assert response.status_code < 500 or response.json()["code"] == "unsupported", response.text


@pytest.mark.parametrize("exists", [True, False], ids=["a stream of others", "none"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_whether_others_have_a_stream_is_not_told(method: str, exists: bool, tmp_path: Path) -> None:
    here = tenants(tmp_path)
    stream = FOREIGN if exists else "camera-8"
    response = here.client.request(method, f"/v1/streams/{stream}", headers=here.headers("b-admin"))
    assert refusal(response, 403, "forbidden").startswith(f"key 'b-admin' is not for stream '{stream}'")
    assert not here.client.engine.resets


# Live connections


def live(stream: str) -> str:
    return f"/v1/streams/{stream}/live"


@pytest.mark.parametrize(
    ("key", "stream"),
    [("all", OWN), ("all", FOREIGN), ("a", FOREIGN), ("b", OWN), ("b-admin", OWN), ("admin", FOREIGN)],
)
def test_a_camera_films_for_the_streams_of_its_key(key: str, stream: str, tmp_path: Path) -> None:
    keys = written_keys(tmp_path / "keys.toml")

    async def scene(client: Client) -> None:
        async with Camera(client, live(stream), headers={"x-api-key": keys[key]}) as camera:
            await camera.opened()
            camera.send(b"one")
            (answer,) = await camera.answers(1)
        assert (answer["stream"], answer["step"]) == (stream, 1)

    client = play(scene, keys=tmp_path / "keys.toml")
    assert [(call.stream, call.client) for call in client.engine.calls] == [(stream, f"key {key!r}")]


@pytest.mark.parametrize("denial", [True, False], ids=["HTTP", "close code"])
@pytest.mark.parametrize(
    ("key", "stream"), [("a", OWN), ("b", FOREIGN), ("b-admin", FOREIGN), ("b", "tenant-b"), ("b", "TENANT-B-1")]
)
def test_for_other_streams_no_connection_is_opened(key: str, stream: str, denial: bool, tmp_path: Path) -> None:
    keys = written_keys(tmp_path / "keys.toml")

    async def scene(client: Client) -> None:
        async with Camera(client, live(stream), headers={"x-api-key": keys[key]}, denial=denial) as camera:
            camera.send(b"one")
            first, second = await camera.message(), await camera.message()
        said = f"key '{key}' is not for stream '{stream}'"
        if denial:
            assert (first["type"], first["status"]) == ("websocket.http.response.start", 403)
            body = json.loads(second["body"])
            assert (body["code"], body["error"].startswith(said)) == ("forbidden", True)
        else:
            assert (first["type"], second["type"], second["code"]) == ("websocket.accept", "websocket.close", 1008)
            assert second["reason"].startswith(said)

    assert not play(scene, keys=tmp_path / "keys.toml").engine.calls


@pytest.mark.parametrize("change", ["removed", "bound to others"])
def test_a_connection_does_not_outlive_the_right_of_its_key(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_files, "CHECK_S", 0.0)
    path = tmp_path / "keys.toml"
    keys = written_keys(path)

    async def scene(client: Client) -> None:
        async with Camera(client, live(OWN), headers={"x-api-key": keys["b"]}) as camera:
            await camera.opened()
            camera.send(b"one")
            await camera.answers(1)
            kept = [key for key in read_keys(path) if key.name != "b"]
            if change == "bound to others":
                (mine,) = (key for key in read_keys(path) if key.name == "b")
                kept.append(key_files.ApiKey(mine.name, mine.scopes, mine.digest, streams=("tenant-c-",)))
            write_keys(path, kept)
            camera.send(b"two", b"three")
            (answer,) = await camera.answers(1)
            closed = await camera.message()
        assert (answer["frame"], answer["code"]) == (1, "forbidden")
        assert (closed["type"], closed["code"]) == ("websocket.close", 1008)
        assert closed["reason"] == (
            "the API key is not valid" if change == "removed" else f"key 'b' is not for stream '{OWN}'"
        )

    assert [call.images for call in play(scene, keys=path).engine.calls] == [[b"one"]]
