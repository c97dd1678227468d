"""The client as its user has it: a real server, a real connection that breaks, and every command of its page."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.client import AsyncClient, Client, ServerUnreachable
from tests.served import ROOT, served

BIN = Path(sys.executable).parent
FRACTION = r"-?\d+\.\d+(?:e-?\d+)?"
SHIP = ROOT / "docs" / "examples" / "foggy-ship.png"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served() as server:
        yield server.url


@contextlib.contextmanager
def breaking(url: str, breaks: int) -> Iterator[str]:
    """The address of a way to the server on which the first connections break when their answer is on its way."""
    upstream = ("127.0.0.1", int(url.rpartition(":")[2]))
    remaining = breaks

    def carry(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(65536):
            target.sendall(data)
        with contextlib.suppress(OSError):  # the other direction may have ended both
            target.shutdown(socket.SHUT_WR)

    def connect(client_socket: socket.socket) -> None:
        nonlocal remaining
        with client_socket, socket.create_connection(upstream) as server_socket, ThreadPoolExecutor(1) as uploads:
            uploads.submit(carry, client_socket, server_socket)
            if remaining:
                remaining -= 1
                # The server has answered, but the client never hears it.
                assert server_socket.recv(65536).startswith(b"HTTP/1.1 200")
            else:
                carry(server_socket, client_socket)
            for connection in (client_socket, server_socket):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as accepting:
        listener.settimeout(10)

        def accept() -> None:
            for _ in range(breaks + 1):
                connect(listener.accept()[0])

        acceptance = accepting.submit(accept)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        acceptance.result(timeout=10)


def test_a_connection_that_breaks_after_the_answer_costs_no_second_step(url: str) -> None:
    with breaking(url, breaks=1) as address, Client(address) as client:
        answer = client.predict(SHIP, stream="broken")
        (state,) = client.stream("broken").info()
    assert (answer.step, state.steps, state.images) == (1, 1, 1)
    with Client(url) as client:
        repetition = client.predict(SHIP, stream="whole")
        following = client.predict(SHIP, stream="broken")
    assert (repetition.predictions, repetition.drift) == (answer.predictions, answer.drift)
    assert following.step == 2


def test_without_another_try_the_step_was_taken_and_the_caller_knows_that_the_connection_broke(url: str) -> None:
    with (
        breaking(url, breaks=1) as address,
        Client(address, retries=0) as client,
    ):
        with pytest.raises(ServerUnreachable, match="was lost"):
            client.predict(SHIP, stream="lost")
        assert client.stream("lost").info()[0].steps == 1


def test_two_tries_at_once_are_one_step(url: str) -> None:
    """As where the first try is still being worked on when the client gives up and tries again."""
    headers = {"Idempotency-Key": "one and the same"}

    async def exchange() -> list[Any]:
        async with httpx.AsyncClient(base_url=url, headers=headers, params={"stream": "twice"}, timeout=30) as client:
            attempts = [client.post("/v1/predict", content=SHIP.read_bytes()) for _ in range(4)]
            return [answer.json() for answer in await asyncio.gather(*attempts)]

    answers = asyncio.run(exchange())
    assert [answer["step"] for answer in answers] == [1] * 4
    with Client(url) as client:
        assert client.stream("twice").info()[0].steps == 1


def test_arrays_and_files_of_the_same_pixels_are_answered_the_same(url: str) -> None:
    frames = np.load(ROOT / "benchmarks" / "sample" / "fog.npy")[:6]

    async def single_predictions() -> Any:
        async with AsyncClient(url) as client:
            return [(await client.predict(frame, stream="x", strategy="source")).predictions[0] for frame in frames]

    with Client(url) as client:
        joint = client.predict(frames, strategy="source", stream="y")
    for image, single in zip(joint.predictions, asyncio.run(single_predictions()), strict=True):
        assert (image.label, image.index) == (single.label, single.index)
        assert image.probability == pytest.approx(single.probability, abs=1e-5)


def test_every_command_of_the_page_does_what_the_page_says(url: str) -> None:
    page = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(sh|python)\n(.*?)```\n\n```text\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == page.count("```sh\n") + page.count("```python\n"), "each block shows what it prints"
    with Client(url) as client:
        client.reset()
    scope: dict[str, Any] = {}
    environment = {**os.environ, "RENORM_URL": url, "PATH": f"{BIN}:{os.environ['PATH']}"}
    with contextlib.chdir(ROOT):
        for language, code, expected in blocks:
            if language == "sh":
                process = subprocess.run(
                    ["bash", "-c", code], env=environment, capture_output=True, text=True, check=True
                )
                output = process.stdout
            else:
                with contextlib.redirect_stdout(io.StringIO()) as buffer:
                    exec(code.replace("http://127.0.0.1:8000", url), scope)  # noqa: S102
                output = buffer.getvalue()
            assert parse_words(output) == approximate_words(expected), code


def parse_words(text: str) -> list[str | float]:
    """The text word by word, its fractions as numbers."""
    pieces = re.split(rf"({FRACTION})|\s+", text)
    return [float(piece) if re.fullmatch(FRACTION, piece) else piece for piece in pieces if piece]


def approximate_words(text: str) -> list[Any]:
    """The same, with fractions that may differ a little: another processor rounds differently."""
    return [pytest.approx(word, rel=0.02, abs=0.002) if isinstance(word, float) else word for word in parse_words(text)]


def test_a_stream_that_moves_to_another_domain_explains_its_alarm_and_what_it_leans_on(url: str) -> None:
    frames = {name: np.load(ROOT / "benchmarks" / "sample" / f"{name}.npy") for name in ("clean", "contrast")}
    answers = []
    with Client(url) as client, client.stream("dusk") as camera:
        for name, start in (("clean", 0), ("contrast", 0), ("contrast", 112)):
            for i in range(start, start + (64 if name == "contrast" else 128), 16):
                answer = camera.predict(frames[name][i : i + 16], explain=True)
            answers.append(answer.explanation)
        (state,) = camera.info()
    assert state.explanation == answers[-1]
    clean, changed, later = answers
    assert clean is not None
    assert changed is not None
    assert later is not None
    assert (clean.change_alarm, changed.change_alarm) == (False, True)
    assert clean.memory is not None
    assert changed.memory is not None
    assert changed.memory > 2 * clean.memory
    assert changed.averaged_images is not None
    assert changed.averaged_images < 160
    assert "Change alarm: the images look different from before" in changed.words
    assert "Change alarm" not in clean.words
    assert later.words.startswith("The next image is normalized with statistics of the training data (")
    page = httpx.get(f"{url}/metrics").text
    assert re.search(r'renorm_normalization_weight{statistics="memory",strategy="auto"} 0\.', page)
