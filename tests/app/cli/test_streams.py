"""`renorm streams` and `renorm reset`: what they send and show, and what they refuse."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from app.cli import cli
from tests.app.client.mock import Server, error_response

STATE = {
    "stream": "camera-7",
    "strategy": "adabn",
    "params": {},
    "steps": 1200,
    "images": 9600,
    "bytes": 5640,
    "drift": 0.714,
    "adaptation": None,
    "entropy": 0.1,
    "age_s": 7300.0,
}
STREAMS = {"streams": [STATE], "bytes": 5640, "capacity_bytes": 1_000_000, "evictions": 3}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """What the commands talk to."""
    server = Server(httpx.Response(200, json=STREAMS))
    real = httpx.Client

    def connected(**options: Any) -> httpx.Client:
        return real(**{**options, "transport": httpx.MockTransport(server)})

    for name in ("RENORM_URL", "RENORM_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("app.client.synchronous.httpx.Client", connected)
    monkeypatch.setattr("app.client.synchronous.time.sleep", lambda _: None)
    return server


def run(*arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(cli, list(arguments), input=answer)


def test_streams_are_a_table(server: Server) -> None:
    shown = run("streams", "--url", "http://lab.example:9000", "--key", "a key")
    assert shown.exit_code == 0, shown.output
    (request,) = server.requests
    assert str(request.url) == "http://lab.example:9000/v1/streams"
    assert request.headers["Authorization"] == "Bearer a key"
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert ["camera-7", "adabn", "1,200", "9,600", "0.71", "-", "5,640", "2", "h", "ago"] in rows
    assert "\n1 stream, 5,640 of 1,000,000 bytes, 3 evicted so far" in shown.stdout


def test_several_states_of_a_stream_are_one_stream(server: Server) -> None:
    other = {**STATE, "strategy": "bn"}
    server.replies = [httpx.Response(200, json={**STREAMS, "streams": [STATE, other, {**STATE, "stream": "hall"}]})]
    assert "\n2 streams, 5,640 of" in run("streams").stdout


def test_server_without_streams_is_a_sentence_and_no_empty_table(server: Server) -> None:
    server.replies = [httpx.Response(200, json={**STREAMS, "streams": [], "bytes": 0})]
    shown = run("streams").stdout
    assert shown.startswith("http://127.0.0.1:8000 has no streams: one is created by its first request")
    assert "last used" not in shown


def test_streams_are_json(server: Server) -> None:
    shown = json.loads(run("streams", "--json").stdout)
    assert shown["streams"][0]["stream"] == "camera-7"
    assert len(server.requests) == 1


def forgotten(count: int) -> httpx.Response:
    return httpx.Response(200, json={"forgotten": count, "stream": None, "strategy": None})


@pytest.mark.parametrize(
    ("options", "body", "says"),
    [
        (["camera-7"], {"stream": "camera-7"}, 'Reset 1 state of stream "camera-7".'),
        (["camera-7", "--strategy", "bn"], {"stream": "camera-7", "strategy": "bn"}, "Reset 1 state"),
        (["--all", "--yes"], {}, "Reset 1 state of all streams."),
    ],
    ids=["stream", "strategy", "all"],
)
def test_reset_forgets(server: Server, options: list[str], body: dict[str, str], says: str) -> None:
    server.replies = [forgotten(1)]
    shown = run("reset", *options)
    assert shown.exit_code == 0, shown.output
    (request,) = server.requests
    sent = json.loads(request.content)
    assert {name: value for name, value in sent.items() if name != "all"} == body
    assert says in shown.stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [(["camera-9"], 'Reset 0 states of stream "camera-9".'), (["--all", "--yes"], "of all streams.")],
    ids=["stream", "all"],
)
def test_reset_says_where_there_was_nothing_to_forget(server: Server, options: list[str], says: str) -> None:
    server.replies = [forgotten(0)]
    shown = run("reset", *options)
    assert shown.exit_code == 0, shown.output
    assert "Reset 0 states" in shown.stdout
    assert says in shown.stdout


@pytest.mark.parametrize(("answer", "sent"), [("y\n", 1), ("n\n", 0), ("", 0)], ids=["yes", "no", "nothing"])
def test_forgetting_everything_asks_first(server: Server, answer: str, sent: int) -> None:
    server.replies = [forgotten(4)]
    shown = run("reset", "--all", answer=answer)
    assert (shown.exit_code == 0, len(server.requests)) == (sent == 1, sent)


@pytest.mark.parametrize("options", [[], ["camera-7", "--all"]], ids=["nothing", "both"])
def test_reset_wants_one_stream_or_all(server: Server, options: list[str]) -> None:
    shown = run("reset", *options)
    assert shown.exit_code == 2
    assert "name one stream to reset, or use --all" in shown.stderr
    assert server.requests == []


@pytest.mark.parametrize("command", [["streams"], ["reset", "camera-7"]], ids=["streams", "reset"])
@pytest.mark.parametrize(
    ("reply", "says"),
    [(error_response(403, "forbidden"), "403 forbidden"), (httpx.ConnectError("refused"), "127.0.0.1:8000")],
    ids=["key", "nobody"],
)
def test_trouble_is_one_line(server: Server, command: list[str], reply: Any, says: str) -> None:
    server.replies = [reply]
    shown = run(*command)
    assert shown.exit_code == 1
    assert shown.stderr.startswith("renorm: ")
    assert shown.stderr.count("\n") == 1
    assert says in shown.stderr
