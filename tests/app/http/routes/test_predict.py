import base64
import json
import math
from typing import Any

import httpx
import pytest

from app.errors import EngineClosedError, FieldError, ImageError, TooLargeError, UnanswerableError
from app.types import Call
from tests.app.fakes import CLASSES, Client, refusal

IMAGE = b"\x89PNG any bytes: the engine is the one to look inside"
TEXT = base64.b64encode(IMAGE).decode()
CURL = "application/x-www-form-urlencoded"  # what curl --data-binary says unasked

FIELDS: dict[str, Any] = {
    "stream": "camera 7 ü",
    "strategy": "bn",
    "params": {"momentum": 0.25, "start": "ü"},
    "update": False,
    "top_k": 2,
}
AS_TEXT = {**FIELDS, "params": json.dumps(FIELDS["params"]), "update": "false", "top_k": "2"}


def the_call(client: Client, response: httpx.Response) -> Call:
    assert response.status_code == 200, response.text
    [call] = client.engine.calls
    return call


def assert_fields(call: Call) -> None:
    assert (call.stream, call.strategy, call.params, call.update) == ("camera 7 ü", "bn", FIELDS["params"], False)


def test_form_with_many_files_and_fields() -> None:
    client = Client()
    files = [("files", ("a.png", IMAGE)), ("files", ("b.jpg", b"second"))]
    response = client.post("/v1/predict", files=files, data=AS_TEXT)
    call = the_call(client, response)
    assert call.images == [IMAGE, b"second"]
    assert_fields(call)
    assert [len(one["top_k"]) for one in response.json()["predictions"]] == [2, 2]


def test_form_with_a_large_file() -> None:
    client = Client()
    large = bytes(range(256)) * 16384
    assert the_call(client, client.post("/v1/predict", files={"files": ("a.tif", large)})).images == [large]


@pytest.mark.parametrize(
    "kind", [None, "", "image/jpeg", "image/x-anything", "IMAGE/PNG; q=1", "application/octet-stream", CURL]
)
def test_raw_image(kind: str | None) -> None:
    client = Client()
    call = the_call(client, client.predict(IMAGE, kind))
    assert call == Call([IMAGE], "default", None, {}, True)


def test_raw_image_with_fields_in_the_query() -> None:
    client = Client()
    call = the_call(client, client.post("/v1/predict", content=IMAGE, params=AS_TEXT))
    assert_fields(call)


def test_chunked_raw_image() -> None:
    client = Client()

    async def chunks() -> Any:
        yield IMAGE[:7]
        yield IMAGE[7:]

    assert the_call(client, client.post("/v1/predict", content=chunks())).images == [IMAGE]


def test_json_with_base64_and_data_uris() -> None:
    client = Client()
    wrapped = "\n".join([TEXT[:20], TEXT[20:]])
    images = [TEXT, f"data:image/png;base64,{TEXT}", f"DATA:;BASE64,{wrapped}\n"]
    call = the_call(client, client.post("/v1/predict", json={"images": images, **FIELDS}))
    assert call.images == [IMAGE] * 3
    assert_fields(call)


def test_fields_in_query_and_body_together() -> None:
    client = Client()
    response = client.post("/v1/predict?stream=a&update=1", json={"images": [TEXT], "strategy": "bn", "top_k": 1})
    call = the_call(client, response)
    assert (call.stream, call.update, call.strategy) == ("a", True, "bn")


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("True", True), ("1", True), ("false", False), ("FALSE", False), ("0", False)]
)
def test_update_as_text(text: str, value: bool) -> None:
    client = Client()
    assert the_call(client, client.predict(IMAGE, query=f"?update={text}")).update is value


def test_answer() -> None:
    client = Client()
    response = client.post(
        "/v1/predict?stream=s&top_k=3",
        files=[("files", ("a", b"a")), ("files", ("b", b"b"))],
        data={"params": '{"k": 1}'},
    )
    image = {
        "label": "cow",
        "index": 2,
        "probability": 0.4,
        "top_k": [
            {"label": "cow", "index": 2, "probability": 0.4},
            {"label": "dog", "index": 3, "probability": 0.2},
            {"label": "emu", "index": 4, "probability": 0.15},
        ],
    }
    entropy = -sum(p * math.log(p) for p in client.engine.probabilities)
    assert response.json() == {
        "model": "fake-net",
        "stream": "s",
        "strategy": "adabn",
        "params": {"k": 1},
        "step": 1,
        "updated": True,
        "state_origin": "live",
        "outliers": 0,
        "weight": 1.0,
        "drift": 0.5,
        "adaptation": 0.25,
        "entropy": pytest.approx(entropy, rel=1e-5),
        "predictions": [image, image],
        "timing_ms": {"decode": 1.0, "queue": 0.5, "forward": 2.0, "total": 3.5},
    }


def test_five_classes_by_default_and_all_at_most() -> None:
    assert len(Client().predict(IMAGE).json()["predictions"][0]["top_k"]) == 5
    assert len(Client().predict(IMAGE, query=f"?top_k={len(CLASSES)}").json()["predictions"][0]["top_k"]) == 7
    few = Client()
    del few.engine.hosted.classes[2:], few.engine.probabilities[2:]
    try:
        assert len(few.predict(IMAGE).json()["predictions"][0]["top_k"]) == 2
    finally:
        few.engine.hosted.classes[2:] = ["cow", "dog", "emu", "fox", "gnu"]


def test_certain_answer_has_no_negative_zero() -> None:
    client = Client()
    client.engine.probabilities = [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    response = client.predict(IMAGE)
    assert response.json()["entropy"] == 0.0
    assert "-0.0" not in response.text


@pytest.mark.parametrize("drift", [math.nan, math.inf, -math.inf])
def test_drift_that_is_not_finite_is_null(drift: float) -> None:
    client = Client()
    client.engine.drift = drift
    response = client.predict(IMAGE)
    assert response.status_code == 200
    assert response.json()["drift"] is None


def test_probabilities_that_are_not_finite_never_reach_json() -> None:
    client = Client()
    client.engine.probabilities[3] = math.nan
    refusal(client.predict(IMAGE), 500, "internal")


@pytest.mark.parametrize(
    ("send", "location"),
    [
        (lambda c: c.post("/v1/predict", files=[("files", ("a", b"a"))] * 3), "files[2]"),
        (lambda c: c.post("/v1/predict", json={"images": [TEXT] * 3}), "images[2]"),
        (lambda c: c.predict(IMAGE), "body"),
    ],
)
def test_engine_names_the_image_in_the_client_s_words(send: Any, location: str) -> None:
    client = Client()
    client.engine.failure = ImageError("cannot read", hint="send a JPEG", image=2)
    assert refusal(send(client), 422, "unreadable_image", location) == "cannot read; send a JPEG"


@pytest.mark.parametrize(
    ("failure", "status", "code", "location"),
    [
        (TooLargeError("too many pixels", image=0), 413, "too_large", "body"),
        (FieldError("no", location="images"), 422, "invalid_field", "body"),
        (UnanswerableError("not finite"), 422, "not_finite", None),
        (EngineClosedError("closing"), 503, "unavailable", None),
    ],
)
def test_engine_s_errors(failure: Exception, status: int, code: str, location: str | None) -> None:
    client = Client()
    client.engine.failure = failure
    refusal(client.predict(IMAGE), status, code, location)
