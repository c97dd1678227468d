"""Live connections as cameras have them: the real command, a WebSocket client, real images."""

from __future__ import annotations

import json
import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.end_to_end.test_command import images, png, shell
from tests.served import ROOT, served

PAGE = (ROOT / "docs" / "streaming.md").read_text()
MOST_BYTES = 200_000
FRAMES = [png(pixels) for pixels in images("fog")[:30]]


class Server(NamedTuple):
    process: subprocess.Popen[str]
    url: str
    http: httpx.Client

    def live(self, stream: str, query: str = "") -> ClientConnection:
        return connect(f"{self.url.replace('http', 'ws')}/v1/streams/{stream}/live{query}", compression=None)

    def post(self, frame: bytes, stream: str) -> dict[str, Any]:
        answer = self.http.post("/v1/predict", content=frame, params={"stream": stream})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def steps(self, stream: str) -> int:
        found = self.http.get(f"/v1/streams/{stream}")
        return int(found.json()[0]["steps"]) if found.status_code == 200 else 0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    # One test sends what is told in a line.
    unsaid = ("Traceback", "Exception", "WARNING (?!uvicorn.error: Invalid UTF-8)", "ERROR")
    with (
        served("--max-image-bytes", str(MOST_BYTES), unsaid=unsaid) as running,
        httpx.Client(base_url=running.url, timeout=60) as http,
    ):
        yield Server(running.process, running.url, http)


def told(camera: ClientConnection, timeout: float = 30) -> dict[str, Any]:
    return dict(json.loads(camera.recv(timeout)))


def essence(answer: dict[str, Any]) -> tuple[Any, ...]:
    best = [(one["label"], round(one["probability"], 5)) for one in answer["predictions"]]
    return best, answer["step"], answer["strategy"], answer["params"], answer["updated"]


def test_frames_are_answered_as_posts_are(server: Server) -> None:
    with server.live("filmed") as camera:
        filmed = []
        for frame in FRAMES:
            camera.send(frame)
            filmed.append(told(camera))
    posted = [server.post(frame, "posted") for frame in FRAMES]
    assert [answer["frame"] for answer in filmed] == list(range(30))
    assert {answer["dropped"] for answer in filmed} == {0}
    assert [essence(answer) for answer in filmed] == [essence(answer) for answer in posted]
    for a, b in zip(filmed, posted, strict=True):
        assert a["drift"] == pytest.approx(b["drift"], abs=1e-5)
        assert a["entropy"] == pytest.approx(b["entropy"], abs=1e-5)
    assert len({answer["drift"] for answer in filmed}) == 30


def test_sending_ahead_changes_no_answer(server: Server) -> None:
    with server.live("ahead", "?queue=2") as camera:
        for frame in FRAMES:
            camera.send(frame)
        ahead = [told(camera) for _ in FRAMES]
    posted = [server.post(frame, "alone") for frame in FRAMES]
    assert [essence(answer) for answer in ahead] == [essence(answer) for answer in posted]


@pytest.mark.parametrize("policy", ["wait", "drop_oldest", "drop_latest"])
def test_a_flood_under_each_policy(server: Server, policy: str) -> None:
    count = 100
    with server.live(f"flood-{policy}", f"?policy={policy}&queue=1&top_k=1") as camera:
        for i in range(count):
            camera.send(FRAMES[i % 30])
        answers = [told(camera)]
        while len(answers) + answers[-1]["dropped"] < count:
            answers.append(told(camera))
        camera.send(FRAMES[0])
        after = told(camera)
    assert (after["frame"], after["step"]) == (count, len(answers) + 1)
    numbers = [answer["frame"] for answer in answers]
    assert numbers == sorted(set(numbers))
    assert [answer["step"] for answer in answers] == list(range(1, len(answers) + 1))
    if policy == "wait":
        assert numbers == list(range(count))
    else:
        assert after["dropped"] > 0
    if policy == "drop_oldest":
        assert numbers[-1] == count - 1


def test_bad_frames_are_explained_and_the_camera_goes_on(server: Server) -> None:
    bad: list[bytes | str] = [
        b"",
        b"<html></html>",
        FRAMES[0][:100],
        "text",
        '{"reset": true}',
        b"\xff\xd8" + bytes(99),
    ]
    with server.live("garbage") as camera:
        camera.send(FRAMES[0])
        assert told(camera)["step"] == 1
        for number, frame in enumerate(bad, 1):
            camera.send(frame)
            answer = told(camera)
            assert (answer["frame"], answer["where"]) == (number, "frame")
            assert answer["code"] in {"unreadable_image", "unsupported_media_type"}
            assert len(answer["error"]) > 20
        camera.send(FRAMES[1])
        assert told(camera)["step"] == 2


def test_a_message_of_too_many_bytes_closes_the_connection(server: Server) -> None:
    with server.live("oversize") as camera:
        camera.send(FRAMES[0])
        told(camera)
        camera.send(bytes(MOST_BYTES + 1))
        with pytest.raises(ConnectionClosed) as closed:
            camera.recv(10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009
    assert server.steps("oversize") == 1


@pytest.mark.parametrize("politely", [True, False])
def test_waiting_frames_of_a_gone_client_take_no_step(server: Server, politely: bool) -> None:
    stream = f"vanished-{politely}"
    with server.live(stream, "?queue=256") as camera:
        for i in range(250):
            camera.send(FRAMES[i % 30])
        told(camera)
        if not politely:
            # A reset without a close frame.
            camera.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            camera.socket.shutdown(socket.SHUT_RDWR)
    steps = server.steps(stream)
    assert steps < 250
    time.sleep(0.3)
    assert server.steps(stream) <= steps + 1
    with server.live(stream) as again:
        again.send(FRAMES[0])
        assert told(again)["frame"] == 0


@pytest.mark.parametrize(
    ("query", "says"),
    [("strategy=magic", "choose one of auto, source"), ("queue=0", "from 1 to 256"), ("colour=red", "the fields are")],
)
def test_wrong_fields_are_refused_in_the_handshake(server: Server, query: str, says: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        server.live("refused", f"?{query}")
    response = refused.value.response
    assert (response.status_code, response.headers["content-type"]) == (422, "application/json")
    said = json.loads(bytes(response.body or b""))
    assert says in said["error"]
    assert {"error", "code", "where"} == set(said)


def test_the_python_of_the_page_runs(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block.replace("ws://127.0.0.1:8000", server.url.replace("http", "ws")), {"__name__": "page"})  # noqa: S102
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0::2] for line in lines[:3]] == [["0", "1"], ["1", "2"], ["2", "3"]]
    live = [int(line.split()[0]) for line in lines[3:]]
    assert live == sorted(set(live))
    assert 10 <= live[-1] <= 19


def test_the_request_of_the_page_is_answered_in_lines(server: Server) -> None:
    (command,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    # A JSON list of the lines, because that is what `shell` reads.
    answers = shell(command.rstrip() + " | sed -e '1s/^/[/' -e '2s/^/,/' -e '2s/$/]/'", server.url)
    assert [(one["images"], one["step"], len(one["predictions"])) for one in answers] == [
        ([0, 1], 1, 2),
        ([2, 2], 2, 1),
    ]


def test_lines_are_the_answers_of_the_same_requests(server: Server) -> None:
    sent = [("files", (f"{i}.png", frame)) for i, frame in enumerate(FRAMES)]
    with server.http.stream("POST", "/v1/predict/stream?chunk=8&stream=lines", files=sent) as response:
        lines = [json.loads(line) for line in response.iter_lines()]
    posted = [server.http.post("/v1/predict?stream=requests", files=sent[i : i + 8]).json() for i in range(0, 30, 8)]
    assert [line["images"] for line in lines] == [[0, 7], [8, 15], [16, 23], [24, 29]]
    assert [essence(line) for line in lines] == [essence(answer) for answer in posted]
    assert [line["drift"] for line in lines] == pytest.approx([answer["drift"] for answer in posted], abs=1e-5)


def test_an_upload_whose_client_goes_takes_no_further_steps(server: Server) -> None:
    sent = [("files", (f"{i}.png", FRAMES[i % 30])) for i in range(128)]
    with server.http.stream("POST", "/v1/predict/stream?chunk=1&stream=left", files=sent) as response:
        assert json.loads(next(response.iter_lines()))["images"] == [0, 0]
    # The connection is closed here, with most of the answer unread.
    time.sleep(0.2)
    steps = server.steps("left")
    assert 1 <= steps < 128
    time.sleep(0.2)
    assert server.steps("left") == steps


def close_code_of_bytes_as_text(url: str) -> int:
    """What a connection closes with whose text message is no UTF-8; the server goes on."""
    with connect(f"{url.replace('http', 'ws')}/v1/streams/bad-text/live", compression=None) as camera:
        camera.send(b"\xff\xfe", text=True)
        with pytest.raises(ConnectionClosed) as closed:
            camera.recv(30)
    assert closed.value.rcvd is not None
    assert httpx.get(f"{url}/readyz").status_code == 200
    return closed.value.rcvd.code


def test_text_that_is_not_utf_8_is_a_close_code(server: Server) -> None:
    """The log has a line for this fault of the client, and no traceback, as that of this server has none at all."""
    assert close_code_of_bytes_as_text(server.url) == 1007


def test_text_that_is_not_utf_8_is_no_traceback_in_a_log_of_json() -> None:
    with served("--log-format", "json", unsaid=("Traceback", "ERROR")) as running:
        assert close_code_of_bytes_as_text(running.url) == 1007


def test_a_server_that_ends_says_so(server: Server) -> None:
    # The last of this file: the server is gone afterwards.
    with server.live("ending") as camera:
        camera.send(FRAMES[0])
        told(camera)
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            camera.recv(20)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code in (1001, 1012)
