"""The benchmark against a server that answers from a script: what it sends, in which order, and what it makes of it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import nullcontext
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import shifted_stream
from numpy.typing import NDArray
from PIL import Image
from shifted_stream import main
from stream_client import ServerError, StreamClient, encode

Handler = Callable[[httpx.Request], httpx.Response]
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
LABELS = np.array([3, 1, 4, 1, 5])


def parts(request: httpx.Request) -> list[tuple[str, bytes]]:
    """Names and contents of a multipart body, in order."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    body = message_from_bytes(head + request.content).get_payload()
    assert isinstance(body, list)
    found = []
    for part in body:
        assert isinstance(part, Message)
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        found.append((str(part.get_param("name", header="content-disposition")), content))
    return found


class Script:
    """A server whose answers are right wherever the first pixel is even, and the requests that it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []
        self.refuse: dict[str, httpx.Response] = {}
        self.keys: set[str | None] = set()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.keys.add(request.headers.get("authorization"))
        path = request.url.path
        if path in self.refuse:
            return self.refuse[path]
        if path == "/readyz":
            return httpx.Response(200, json={"ready": True, "model": "script"})
        if path == "/v1/admin/reset":
            self.seen.append(("reset", json.loads(request.content)["stream"]))
            return httpx.Response(200, json={"forgotten": 1})
        said = parts(request)
        images = [np.asarray(Image.open(io.BytesIO(data))) for name, data in said if name == "files"]
        fields = {name: data.decode() for name, data in said if name != "files"}
        self.seen.append((fields["strategy"], (fields["stream"], fields["params"], images)))
        right = {image.tobytes(): int(label) for image, label in zip(PIXELS, LABELS, strict=True)}
        found = [right[image.tobytes()] if image.flat[0] % 2 == 0 else 9 for image in images]
        return httpx.Response(200, json={"predictions": [{"index": index} for index in found]})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("fog", "clean"):
        np.save(tmp_path / f"{name}.npy", PIXELS)
    np.save(tmp_path / "labels.npy", LABELS)
    return tmp_path


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    server = Script()
    monkeypatch.delenv("RENORM_ADMIN_KEY", raising=False)

    def connect(url: str, key: str | None = None) -> StreamClient:
        return StreamClient(url, key, httpx.MockTransport(server))

    monkeypatch.setattr(shifted_stream, "StreamClient", connect)
    return server


def test_images_travel_without_loss() -> None:
    for pixels in PIXELS:
        decoded: NDArray[np.uint8] = np.asarray(Image.open(io.BytesIO(encode(pixels))))
        assert np.array_equal(decoded, pixels)


def test_a_stream_is_reset_and_sent_in_file_order(script: Script, data: Path) -> None:
    strategies = ["source", 'alpha_bn:{"prior": 16}']
    assert main(["--data", str(data), "--corruptions", "fog", "--batch", "2", "--strategies", *strategies]) == 0
    kinds = [kind for kind, _ in script.seen]
    assert kinds == ["reset", "source", "source", "source", "reset", "alpha_bn", "alpha_bn", "alpha_bn"]
    for at, params in ((0, {}), (4, {"prior": 16})):
        stream = script.seen[at][1]
        sent = [what for _, what in script.seen[at + 1 : at + 4]]
        assert {name for name, _, _ in sent} == {stream}
        assert [json.loads(given) for _, given, _ in sent] == [params] * 3
        assert [len(images) for _, _, images in sent] == [2, 2, 1]
        assert np.array_equal(np.concatenate([images for _, _, images in sent]), PIXELS)
    assert script.seen[0][1] != script.seen[4][1]


def test_errors_are_counted_and_written(script: Script, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = data / "made" / "table.csv"
    assert main(["--data", str(data), "--strategies", "source", "adabn", "--out", str(out)]) == 0
    wrong = 100 * np.mean(PIXELS[:, 0, 0, 0] % 2 != 0)
    assert 0 < wrong < 100
    assert f"| fog | {wrong:.2f} | {wrong:.2f} |" in capsys.readouterr().out
    table = [line.split(",") for line in out.read_text().splitlines()]
    assert [line[0] for line in table] == ["error %", "fog", "mean of 1", "against source", "clean", "images/s"]
    assert table[3] == ["against source", "+0.00", "+0.00"]


def test_rows_are_chosen_by_skip_and_limit(script: Script, data: Path) -> None:
    chosen = ["--skip", "1", "--limit", "2", "--streams-prefix", "mine-"]
    assert main(["--data", str(data), "--corruptions", "fog", "--strategies", "bn", *chosen]) == 0
    (_, (stream, _, images)) = script.seen[1]
    assert np.array_equal(images, PIXELS[1:3])
    assert stream.startswith("mine-fog")


def test_by_class_one_class_follows_the_other_in_file_order_within(
    script: Script, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(data), "--corruptions", "fog", "--strategies", "bn", "--order", "class"]) == 0
    (_, (_, _, images)) = script.seen[1]
    assert np.array_equal(images, PIXELS[[1, 3, 0, 2, 4]])
    # The labels are sorted with the images: what is right and wrong is as it was.
    assert f"| fog | {100 * np.mean(PIXELS[:, 0, 0, 0] % 2 != 0):.2f} |" in capsys.readouterr().out


def test_the_admin_key_comes_from_the_environment(script: Script, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["--data", str(data), "--limit", "1"]) == 0
    assert script.keys == {None}
    monkeypatch.setenv("RENORM_ADMIN_KEY", "a long key")
    assert main(["--data", str(data), "--limit", "1"]) == 0
    assert script.keys == {None, "Bearer a long key"}


def test_a_refusal_is_shown_in_the_servers_words_with_what_was_found(
    script: Script, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script.refuse["/v1/predict"] = httpx.Response(422, json={"error": "unknown strategy 'x'", "code": "unknown"})
    assert main(["--data", str(data), "--strategies", "x"]) == 1
    said = capsys.readouterr()
    assert "POST /v1/predict was refused (422): unknown strategy 'x'" in said.err
    assert said.out == ""


def test_what_was_found_before_a_failure_is_kept(
    script: Script, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(data / "fog.npy", PIXELS.astype(np.float32))
    assert main(["--data", str(data), "--strategies", "bn", "--corruptions", "clean", "fog"]) == 1
    said = capsys.readouterr()
    assert "fog.npy holds float32 [5, 32, 32, 3]" in said.err
    assert "| fog | - |" in said.out
    assert "| clean | -" not in said.out


def refuse(error: Exception) -> Handler:
    def handler(request: httpx.Request) -> httpx.Response:
        raise error

    return handler


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (refuse(httpx.ConnectError("refused")), "no answer from http://there: refused; is it running"),
        (refuse(httpx.ReadTimeout("too slow")), "too slow"),
        (lambda request: httpx.Response(200, text="<html>"), "is this a Renorm server"),
        (lambda request: httpx.Response(503, json={"error": "starting", "code": "x"}), r"refused \(503\): starting"),
    ],
)
def test_a_server_that_does_not_answer_is_named(handler: Handler, said: str) -> None:
    transport = httpx.MockTransport(handler)
    with StreamClient("http://there/", None, transport) as client, pytest.raises(ServerError, match=said):
        client.ready()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--corruptions", "rain"], "no rain in"),
        (["--skip", "5"], "no rows are left of the 5"),
    ],
)
def test_data_that_is_not_there_is_named(
    script: Script, data: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["--data", str(data), *arguments]) == 1
    assert said in capsys.readouterr().err


def test_a_folder_without_labels_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path)]) == 1
    assert "no labels.npy" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--batch", "0"], ["--out", "x.txt"], ["--strategies", "bn:{"], ["--limit", "-1"], ["--skip", "x"]]
)
def test_options_that_cannot_be_read_end_with_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--data", "there", *arguments])
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_serve_hands_its_options_to_a_server_of_its_own(
    script: Script, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []

    def serve(arguments: list[str]) -> nullcontext[str]:
        started.append(arguments)
        return nullcontext("http://own")

    monkeypatch.setattr(shifted_stream, "local_server", serve)
    assert main(["--data", str(data), "--limit", "1", "--serve", "--serve-args", "--threads 1 --labels 'a b'"]) == 0
    assert started == [["--threads", "1", "--labels", "a b"]]
