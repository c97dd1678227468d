"""A folder of images: which of them, in which order, how many at a time, and the bar that shows it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.client import AsyncClient, Client, InvalidInput, Refused
from app.client.folders import batches, image_files
from tests.app.client.mock import Server, error_response, form, prediction_response, run

NAMES = ["a.png", "Frame-1.png", "frame-2.JPG", "frame-10.png", "frame-10b.png", "ü.webp"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    other_files = [".hidden.png", "notes.txt", "labels.npy"]
    names = sorted([*NAMES, *other_files], key=lambda name: name[::-1])
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / "day 2").mkdir()
    (tmp_path / "day 2" / "b.png").write_text("b")
    (tmp_path / "folder.png").mkdir()
    return tmp_path


def test_images_come_in_natural_order(folder: Path) -> None:
    assert [path.name for path in image_files(folder)] == NAMES == [path.name for path in image_files(str(folder))]


def test_a_pattern_decides_alone(folder: Path) -> None:
    assert [path.name for path in image_files(folder, "*.txt")] == ["notes.txt"]
    deep = [path.relative_to(folder).as_posix() for path in image_files(folder, "**/*.png")]
    assert deep == ["a.png", "day 2/b.png", "Frame-1.png", "frame-10.png", "frame-10b.png"]


def test_folders_without_images_are_refused(folder: Path) -> None:
    for path, pattern, message in (
        (folder / "a.png", None, "is not a folder"),
        (folder / "nowhere", None, "is not a folder"),
        (folder / "folder.png", None, "no file in .* ends in .bmp, "),
        (folder, "*.avi", "no file in .* matches"),
    ):
        with pytest.raises(InvalidInput, match=message):
            image_files(path, pattern)
    with pytest.raises(InvalidInput, match="batch size must be at least 1, not 0"):
        batches([folder], 0)


def sent_files(server: Server) -> list[list[str]]:
    return [[content.decode() for _, content in form(request)[1]] for request in server.requests]


def test_one_request_holds_one_batch() -> None:
    assert batches([Path(name) for name in "abcde"], 2) == [
        [Path("a"), Path("b")],
        [Path("c"), Path("d")],
        [Path("e")],
    ]


def test_a_folder_is_predicted_in_order_and_as_it_goes(folder: Path) -> None:
    server = Server(prediction_response(4), prediction_response(2))
    with Client(transport=httpx.MockTransport(server)) as client:
        predictions = client.predict_folder(folder, stream="camera-7", strategy="bn", update=False, top_k=2, batch=4)
        assert server.requests == []
        path, prediction = next(predictions)
        assert (path.name, prediction.label, len(server.requests)) == ("a.png", "cow", 1)
        assert [path.name for path, _ in predictions] == NAMES[1:]
    assert sent_files(server) == [NAMES[:4], NAMES[4:]]
    fields, _ = form(server.requests[1])
    assert fields == {"stream": "camera-7", "strategy": "bn", "update": "false", "top_k": "2"}


def test_a_folder_is_predicted_the_same_with_await(folder: Path) -> None:
    server = Server(prediction_response(4), prediction_response(2))

    async def use(client: AsyncClient) -> list[str]:
        return [path.name async for path, _ in client.predict_folder(folder, batch=4)]

    assert run(AsyncClient, server, use) == NAMES
    assert sent_files(server) == [NAMES[:4], NAMES[4:]]


@pytest.mark.parametrize("options", [{"folder": "nowhere"}, {"batch": 0}, {"pattern": "*.avi"}])
def test_mistakes_are_known_before_the_first_image(folder: Path, options: dict[str, Any]) -> None:
    with Client(transport=httpx.MockTransport(Server(prediction_response()))) as client, pytest.raises(InvalidInput):
        client.predict_folder(**{"folder": folder, **options})


def test_a_refusal_names_the_file(folder: Path) -> None:
    server = Server(prediction_response(2), error_response(422, "unreadable_image", "files[1]"))
    with (
        Client(transport=httpx.MockTransport(server)) as client,
        pytest.raises(Refused, match=r"frame-10\.png: it was"),
    ):
        list(client.predict_folder(folder, batch=2))


BAR = """
from app.client.folders import bar
with bar(2, visible=True) as advance:
    for i in range(2):
        advance(1)
        print("line", i)
"""


def test_the_bar_is_drawn_in_a_terminal_and_leaves_pipes_alone() -> None:
    screen, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    command = [sys.executable, "-c", BAR]
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, env=environment, check=True)
    os.close(terminal)
    output = os.read(screen, 100_000).decode()
    os.close(screen)
    assert process.stdout == b"line 0\nline 1\n"
    assert "predicting" in output
    assert "2/2" in output


def test_the_bar_is_silent_in_a_pipe() -> None:
    process = subprocess.run([sys.executable, "-c", BAR], capture_output=True, text=True, check=True)
    assert (process.stdout, process.stderr.strip()) == ("line 0\nline 1\n", "")
