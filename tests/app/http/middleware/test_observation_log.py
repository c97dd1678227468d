"""Every call is one line of the access log, WebSockets too."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from app.http.middleware.observation import Observation, note
from app.observability.logs import REQUEST_ID, JsonLines, TextLines, access
from app.observability.metrics import Metrics
from tests.app.fakes import Client, refusal
from tests.app.http.middleware.test_observation import TIMING, counted, counts


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[dict[str, Any]]]:
    """The access log as programs read it, line by line as it is written."""
    seen: list[dict[str, Any]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(json.loads(JsonLines().format(record)))

    handler, level = Keep(), access.level
    access.addHandler(handler)
    access.setLevel(logging.INFO)
    yield seen
    access.removeHandler(handler)
    access.setLevel(level)


def test_an_unforeseen_failure_has_an_id_and_is_counted(lines: list[dict[str, Any]]) -> None:
    client = Client()
    client.engine.failure = RuntimeError("secret")
    response = client.get("/v1/model", headers={"X-Request-Id": "mine"})
    assert "secret" not in refusal(response, 500, "internal")
    assert response.headers["x-request-id"] == "mine"
    assert counted(client) == {("/v1/model", "GET", "5xx"): 1}
    assert [(line["status"], line["request_id"]) for line in lines] == [(500, "mine")]


def test_a_line_of_the_access_log(lines: list[dict[str, Any]]) -> None:
    client = Client()
    response = client.post(
        "/v1/predict?stream=camera-7", content=b"x", headers={"X-Request-Id": "mine", "Content-Type": "image/png"}
    )
    (line,) = lines
    assert line.pop("duration_ms") > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "INFO",
        "logger": "renorm.access",
        "message": "POST /v1/predict 200",
        "method": "POST",
        "path": "/v1/predict",
        "status": 200,
        "bytes": len(response.content),
        "client": "127.0.0.1",
        "stream": "camera-7",
        "request_id": "mine",
    }


def test_the_stream_of_a_refused_request_is_known(lines: list[dict[str, Any]]) -> None:
    client = Client()
    client.engine.failure = RuntimeError("broken")
    client.predict(b"x", query="?stream=camera-9")
    assert [(line["stream"], line["status"]) for line in lines] == [("camera-9", 500)]


def test_keys_in_a_query_are_not_logged(lines: list[dict[str, Any]]) -> None:
    Client().get("/v1/model?key=secret")
    assert "secret" not in json.dumps(lines)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"])
def test_probes_are_quiet_but_counted(lines: list[dict[str, Any]], path: str) -> None:
    client = Client()
    client.get(path)
    assert lines == []
    assert sum(counted(client).values()) == 1


def test_path_that_resembles_a_probe_is_logged(lines: list[dict[str, Any]]) -> None:
    Client().get("/metrics-of-mine")
    assert [line["path"] for line in lines] == ["/metrics-of-mine"]


def test_no_path_can_write_lines_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, access.name)
    Client().get("/a%0AGET%20/b" + "c" * 1000)
    (record,) = [one for one in caplog.records if one.name == access.name]
    text = TextLines().format(record)
    assert "\n" not in text
    assert "GET /a%0AGET%20/bccc" in text
    assert len(text) < 700


def exchange(app: Any, scope: dict[str, Any], metrics: Metrics | None = None) -> tuple[list[Any], str]:
    """What comes out of an application behind the middleware, and the id that is left behind in the task."""
    got: list[Any] = []

    async def send(message: Any) -> None:
        got.append(message)

    async def live() -> str:
        full = {"path": "/v1/live", "headers": [], **scope}
        with suppress(ConnectionError):
            await Observation(app, metrics or Metrics())(full, None, send)  # type: ignore[arg-type]
        return REQUEST_ID.get()

    return got, asyncio.run(live())


def test_a_websocket_has_an_id_and_one_line(lines: list[dict[str, Any]]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept", "headers": [(b"x", b"y")]})
        note(scope, "camera-7", TIMING)
        await send({"type": "websocket.send", "text": "abc"})
        await send({"type": "websocket.send", "bytes": b"de", "text": None})
        await send({"type": "websocket.close", "code": 1000})

    metrics = Metrics()
    got, left = exchange(app, {"type": "websocket", "headers": [(b"x-request-id", b"mine")]}, metrics)
    assert got[0]["headers"] == [(b"x", b"y"), (b"x-request-id", b"mine")]
    assert [(line["message"], line["bytes"], line["stream"]) for line in lines] == [
        ("WEBSOCKET /v1/live 101", 5, "camera-7")
    ]
    assert lines[0]["request_id"] == "mine"
    assert left == ""
    assert counts(metrics) == {}, "a connection is no request"


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([{"type": "websocket.close", "code": 1008}], 403),
        ([{"type": "websocket.http.response.start", "status": 429, "headers": []}], 429),
        ([], 499),
    ],
)
def test_a_websocket_that_is_refused(lines: list[dict[str, Any]], messages: list[Any], status: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    got, _ = exchange(app, {"type": "websocket"})
    assert len(got) == len(messages)
    assert [line["status"] for line in lines] == [status]


@pytest.mark.parametrize("accepted", [True, False])
def test_a_websocket_that_breaks(lines: list[dict[str, Any]], accepted: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if accepted:
            await send({"type": "websocket.accept"})
        raise ConnectionError("broken")

    got, left = exchange(app, {"type": "websocket", "headers": [(b"x-request-id", b"mine")]})
    assert len(got) == accepted
    assert [line["status"] for line in lines] == [101 if accepted else 500]
    assert left == "mine", "the server logs the traceback next, with the id"


def test_an_answer_that_breaks_off_keeps_its_status(lines: list[dict[str, Any]]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ConnectionError("broken")

    got, _ = exchange(app, {"type": "http", "method": "GET"})
    assert [message["type"] for message in got] == ["http.response.start"]
    assert [line["status"] for line in lines] == [200]


def test_a_client_that_went_before_it_was_answered(lines: list[dict[str, Any]]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        pass

    metrics = Metrics()
    exchange(app, {"type": "http", "method": "GET", "client": None}, metrics)
    assert [(line["status"], line["client"]) for line in lines] == [(499, None)]
    assert counts(metrics) == {("other", "GET", "4xx"): 1}


ROOT = Path(__file__).parent.parent.parent.parent.parent


def test_the_lines_on_the_page_are_of_the_real_kind(lines: list[dict[str, Any]]) -> None:
    page = (ROOT / "docs" / "observability.md").read_text()
    (shown,) = [json.loads(line) for line in page.splitlines() if line.startswith('{"time"')]
    Client().predict(b"x", query="?stream=camera-7")
    assert list(shown) == list(lines[0])
    fixed = ("level", "logger", "message", "method", "path", "status", "client", "stream")
    assert {key: shown[key] for key in fixed} == {key: lines[0][key] for key in fixed}


def test_the_line_for_people_on_the_page_is_the_same_one() -> None:
    page = (ROOT / "docs" / "observability.md").read_text()
    (said,) = [json.loads(line) for line in page.splitlines() if line.startswith('{"time"')]
    fields = {key: said[key] for key in ("duration_ms", "bytes", "client", "stream", "request_id")}
    record = logging.LogRecord(said["logger"], logging.INFO, "", 1, said["message"], (), None)
    record.fields = fields
    (shown,) = [line for line in page.splitlines() if " INFO renorm.access: " in line]
    assert TextLines().format(record)[len("2026-11-21 14:13:03,071") :] == shown[len("2026-11-21 14:13:03,071") :]
