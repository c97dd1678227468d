"""Both clients: what they send, and what they make of the answer."""

from __future__ import annotations

import doctest
import functools
import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

import app.client
from app.client import (
    Answer,
    AsyncClient,
    Client,
    ImagePrediction,
    InvalidInput,
    Ranked,
    ServerUnreachable,
    TimingMs,
)
from app.explanation_schema import EXAMPLE, ExplanationResponse
from tests.app.client.mock import BOTH, Server, error_response, form, predict, prediction_response, run

pytestmark = pytest.mark.usefixtures("pauses")


def state(name: str) -> list[dict[str, Any]]:
    numbers = {"steps": 1, "images": 1, "bytes": 4, "drift": 0.5, "entropy": 0.1, "age_s": 1.0}
    return [{"stream": name, "strategy": "bn", "params": {}, **numbers}]


@BOTH
def test_a_prediction_is_one_form(kind: type) -> None:
    server = Server(prediction_response(2))
    options: dict[str, Any] = {"stream": "zürich 7", "strategy": "bn", "params": {"momentum": 0.2}, "update": False}
    run(kind, server, predict([b"one", b"two"], **options, top_k=3))
    (request,) = server.requests
    assert (request.method, str(request.url)) == ("POST", "http://127.0.0.1:8000/v1/predict")
    fields, files = form(request)
    assert json.loads(fields.pop("params")) == {"momentum": 0.2}
    assert fields == {"stream": "zürich 7", "strategy": "bn", "update": "false", "top_k": "3"}
    assert files == [("application/octet-stream", b"one"), ("application/octet-stream", b"two")]
    assert "Authorization" not in request.headers


@BOTH
def test_an_explanation_is_typed(kind: type) -> None:
    server = Server(prediction_response(explanation={**EXAMPLE, "newer": 1}))
    answer = run(kind, server, predict(explain=True))
    assert form(server.requests[0])[0] == {"stream": "default", "update": "true", "explain": "true"}
    assert answer.explanation == ExplanationResponse.model_validate(EXAMPLE)
    assert (answer.explanation.change_alarm, answer.explanation.images) == (True, 192)
    assert run(kind, Server(prediction_response()), predict()).explanation is None


def test_a_handle_asks_for_an_explanation_of_one_prediction() -> None:
    server = Server(prediction_response())
    with Client(transport=httpx.MockTransport(server)) as client:
        camera = client.stream("camera-7")
        camera.predict(b"image", explain=True)
        camera.predict(b"image")
    assert ["explain" in form(request)[0] for request in server.requests] == [True, False]


@BOTH
def test_unset_options_are_not_sent(kind: type) -> None:
    server = Server(prediction_response())
    run(kind, server, predict())
    assert form(server.requests[0])[0] == {"stream": "default", "update": "true"}


@BOTH
def test_key_address_and_its_path_are_used(kind: type) -> None:
    server = Server(prediction_response())
    run(kind, server, predict(), url="https://lab.example/renorm/", key=" schlüssel ")
    (request,) = server.requests
    assert request.url == "https://lab.example/renorm/v1/predict"
    assert dict(request.headers.raw)[b"Authorization"] == "Bearer schlüssel".encode()


@BOTH
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "127.0.0.1:8000"}, "must begin with http://"),
        ({"url": "localhost"}, "must begin with http://"),
        ({"url": "http://[::1"}, "is not a valid URL"),
        ({"key": ""}, "the key is empty"),
        ({"key": "a\nb"}, "line break"),
    ],
)
def test_invalid_client_options_are_refused_at_once(kind: type, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        kind(**options)


@BOTH
@pytest.mark.parametrize("params", [{"a": float("nan")}, {"a": object()}])
def test_params_that_are_not_json_are_refused(kind: type, params: dict[str, Any]) -> None:
    server = Server(prediction_response())
    with pytest.raises(InvalidInput, match="params cannot be written as JSON"):
        run(kind, server, predict(params=params))
    assert server.requests == []


@pytest.mark.parametrize(("kind", "is_apart"), [(Client, False), (AsyncClient, True)])
def test_images_are_read_apart_from_the_event_loop(kind: type, is_apart: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = list[int]()

    def read_bytes(_: Path) -> bytes:
        threads.append(threading.get_ident())
        return b"image"

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    run(kind, Server(prediction_response()), predict(Path("image.png")))
    assert [thread != threading.get_ident() for thread in threads] == [is_apart]


# What comes back


@BOTH
def test_answers_are_typed_and_frozen(kind: type) -> None:
    answer = run(kind, Server(prediction_response(2, newer="left out")), predict([b"one", b"two"]))
    cow, dog = Ranked("cow", 2, 0.4), Ranked("dog", 3, 0.2)
    image = ImagePrediction("cow", 2, 0.4, (cow, dog))
    timing = TimingMs(1.0, 0.5, 2.0, 3.5)
    fields = ("fake-net", "default", "adabn", {"momentum": 0.1}, 1, True, 0.5, 0.25)
    assert answer == Answer(*fields, [image, image], timing, 0.25, state_origin="live")
    for frozen, name in ((answer, "step"), (image, "label"), (cow, "label"), (timing, "total")):
        with pytest.raises(AttributeError):
            setattr(frozen, name, getattr(frozen, name))


def test_the_example_of_the_package_does_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "image.jpg").write_bytes(b"image")
    monkeypatch.chdir(tmp_path)
    server = Server(prediction_response())
    client = functools.partial(Client, transport=httpx.MockTransport(server))
    assert doctest.testmod(app.client, extraglobs={"Client": client}) == (0, 2)
    assert form(server.requests[0])[0]["stream"] == "camera-7"


def test_a_drift_that_is_not_finite_is_none() -> None:
    assert run(Client, Server(prediction_response(drift=None)), predict()).drift is None


@BOTH
def test_other_calls(kind: type) -> None:
    strategy: dict[str, Any] = {"name": "bn", "description": "", "documentation": "", "parameters": {}}
    strategy |= {"kind": "adapter", "adapter": None, "default": True}
    server = Server(
        httpx.Response(200, json={"forgotten": 2, "stream": "s", "strategy": None}),
        httpx.Response(200, json={"streams": state("s"), "bytes": 4, "capacity_bytes": 9, "evictions": 0}),
        httpx.Response(200, json=[strategy]),
    )

    async def use(client: Any) -> None:
        assert await client.reset("s") == 2
        assert (await client.streams()).streams[0].steps == 1
        assert [strategy.name for strategy in await client.strategies()] == ["bn"]

    run(kind, server, use)
    requests = [(request.method, request.url.raw_path) for request in server.requests]
    assert requests == [("POST", b"/v1/admin/reset"), ("GET", b"/v1/streams"), ("GET", b"/v1/strategies")]
    assert json.loads(server.requests[0].content) == {"stream": "s"}


FORGOTTEN = httpx.Response(200, json={"forgotten": 1, "stream": "../a", "strategy": "bn"})


@pytest.mark.parametrize("release", [False, True])
def test_stream_handle_adds_its_options_to_every_call(release: bool) -> None:
    server = Server(
        prediction_response(),
        httpx.Response(200, json=state("..")),
        error_response(404, "stream_not_found"),
        FORGOTTEN,
        FORGOTTEN,
    )
    with (
        Client(transport=httpx.MockTransport(server)) as client,
        client.stream("..", strategy="bn", params={"momentum": 0.2}, top_k=1, release=release) as camera,
    ):
        camera.predict(b"image", update=False)
        assert camera.info()[0].steps == 1
        assert camera.info() == []
        assert camera.reset() == 1
    check_handle(server, release)


@pytest.mark.parametrize("release", [False, True])
def test_async_stream_handle_adds_its_options_to_every_call(release: bool) -> None:
    server = Server(
        prediction_response(),
        httpx.Response(200, json=state("..")),
        error_response(404, "stream_not_found"),
        FORGOTTEN,
        FORGOTTEN,
    )

    async def use(client: AsyncClient) -> None:
        options: dict[str, Any] = {"strategy": "bn", "params": {"momentum": 0.2}, "top_k": 1, "release": release}
        async with client.stream("..", **options) as camera:
            await camera.predict(b"image", update=False)
            assert (await camera.info())[0].steps == 1
            assert await camera.info() == []
            assert await camera.reset() == 1

    run(AsyncClient, server, use)
    check_handle(server, release)


def check_handle(server: Server, release: bool) -> None:
    expected = [b"/v1/predict", b"/v1/streams/%2E%2E", b"/v1/streams/%2E%2E", b"/v1/admin/reset"]
    assert [request.url.raw_path for request in server.requests] == expected + [b"/v1/admin/reset"] * release
    fields, _ = form(server.requests[0])
    assert (fields["stream"], fields["strategy"], fields["top_k"], fields["update"]) == ("..", "bn", "1", "false")
    assert [json.loads(request.content) for request in server.requests[3:]] == [{"stream": "..", "strategy": "bn"}] * (
        1 + release
    )


# Being ready


READY = httpx.Response(200, json={"ready": True, "model": "fake-net"})


@BOTH
def test_ready_asks_once(kind: type) -> None:
    async def use(client: Any) -> Any:
        return await client.ready()

    assert run(kind, Server(READY), use) is True
    for reply in (error_response(503, "unavailable"), httpx.ConnectError("refused"), httpx.Response(404)):
        server = Server(reply)
        assert run(kind, server, use) is False
        assert len(server.requests) == 1


@BOTH
def test_waiting_ends_when_the_model_answers(kind: type) -> None:
    async def use(client: Any) -> None:
        await client.wait_until_ready(60)

    server = Server(httpx.ConnectError("refused"), error_response(503, "unavailable"), READY)
    run(kind, server, use)
    assert len(server.requests) == 3


@BOTH
def test_waiting_ends_after_the_timeout_with_the_reason(kind: type) -> None:
    async def use(client: Any) -> None:
        await client.wait_until_ready(0.1)

    for reply, message in (
        (httpx.ConnectError("refused"), "no server answers"),
        (error_response(503, "x"), "it was wrong"),
    ):
        with pytest.raises(ServerUnreachable, match=f"not ready after 0.1 s: .*{message}"):
            run(kind, Server(reply), use)
