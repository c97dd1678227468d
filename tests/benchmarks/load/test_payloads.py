"""What servers are sent, and which of their answers are believed."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from PIL import Image

from benchmarks.load.payloads import PLAIN, Dialect, Guess, Pictures

RENORM = Dialect("renorm", "raw", "adabn")


def parts(request: bytes) -> tuple[str, dict[str, str], bytes]:
    """The first line, the headers, and the body of a request."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return first, dict(line.lower().split(": ", 1) for line in lines), body


def test_renorm_gets_one_image_as_it_is() -> None:
    first, headers, body = parts(RENORM.request("http://127.0.0.1:80", [b"pixels"], "camera-3"))
    assert first == "POST /v1/predict?stream=camera-3&strategy=adabn&top_k=1 HTTP/1.1"
    assert headers["content-length"] == "6"
    assert body == b"pixels"


@pytest.mark.parametrize("dialect", [RENORM, Dialect("renorm", "form", "adabn"), Dialect("litserve", "form")])
def test_several_images_are_a_form(dialect: Dialect) -> None:
    first, headers, body = parts(dialect.request("http://127.0.0.1:80", [b"one", b"two"], "camera-3"))
    assert first == f"POST /{'v1/' * (dialect.server == 'renorm')}predict HTTP/1.1"
    assert headers["content-type"].startswith("multipart/form-data; boundary=")
    assert int(headers["content-length"]) == len(body)
    assert body.count(b'name="files"') == 2
    assert (b"camera-3" in body) == (dialect.server == "renorm")


@pytest.mark.parametrize(("server", "path"), [("litserve", "/predict"), ("mlserver", "/v2/models/network/infer")])
def test_peers_get_base64_in_json(server: str, path: str) -> None:
    first, _, body = parts(Dialect(server, "json").request("http://127.0.0.1:80", [b"one", b"two"], "any"))
    assert first == f"POST {path} HTTP/1.1"
    sent: Any = json.loads(body)
    texts = sent["images"] if server == "litserve" else sent["inputs"][0]["data"]
    assert [base64.b64decode(text) for text in texts] == [b"one", b"two"]


def test_an_open_inference_answer_is_read() -> None:
    outputs = [{"name": "index", "data": [8, 3]}, {"name": "probability", "data": [0.5, 0.25]}]
    body = json.dumps({"outputs": outputs}).encode()
    assert Dialect("mlserver", "json").guesses(body) == [Guess(8, 0.5), Guess(3, 0.25)]


@pytest.mark.parametrize(
    ("prediction", "images"),
    [
        ({"index": 8, "probability": 0.5}, 1),
        ({"index": 0, "probability": 1.0}, 3),
        ({"index": 9, "probability": 0.1}, 1),
    ],
)
def test_a_plausible_answer_has_no_fault(prediction: dict[str, Any], images: int) -> None:
    assert RENORM.fault(200, json.dumps({"predictions": [prediction] * images}).encode(), images) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"predictions": []}',
        b'{"predictions": [{"index": 10, "probability": 0.5}]}',
        b'{"predictions": [{"index": 8, "probability": 0.05}]}',
        b'{"predictions": [{"index": 8, "probability": NaN}]}',
        b'{"predictions": [{"index": null, "probability": 0.5}]}',
        b'{"predictions": [{"index": 8, "probability": 0.5}, {"index": 8, "probability": 0.5}]}',
    ],
)
def test_implausible_answers_are_faults_that_quote_the_body(body: bytes) -> None:
    fault = RENORM.fault(200, body, 1)
    assert fault is not None
    assert body.decode() in fault


def test_a_refusal_is_told_in_the_server_s_words() -> None:
    assert RENORM.fault(422, b'{"error": "no such strategy"}', 1) == 'status 422: {"error": "no such strategy"}'


@pytest.mark.parametrize("pictures", [PLAIN, Pictures("jpeg", 48)])
def test_pictures_are_images_of_the_asked_kind_and_cameras_differ(pictures: Pictures) -> None:
    import io

    first = pictures.of(0)
    with Image.open(io.BytesIO(first[0])) as image:
        assert (image.format, image.size) == (pictures.format.upper(), (pictures.side, pictures.side))
    assert first[0] != pictures.of(1)[0]
    assert first is pictures.of(4)
