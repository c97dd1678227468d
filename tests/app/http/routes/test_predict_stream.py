from __future__ import annotations

import asyncio
import base64
import json
import logging
from dataclasses import replace
from typing import Any

import httpx
import pytest
import torch

from app.errors import ImageError, UnanswerableError
from app.http.requests.parse import PredictRequest
from app.http.routes.predict_stream import split
from app.schemas import PredictResponse
from app.types import Call, Prediction
from tests.app.fakes import Client, FakeEngine, refusal

PATH = "/v1/predict/stream"


class Failing(FakeEngine):
    """Answers, except that its n-th call fails; or waits in it for ever where there is no ``trouble``."""

    nth = 0
    trouble: Exception | None = None
    called_off = 0

    async def predict(self, call: Call) -> Prediction:
        if len(self.calls) != self.nth:
            return await super().predict(call)
        if self.trouble is not None:
            raise self.trouble
        try:
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            self.called_off += 1
            raise


def failing(nth: int, trouble: Exception | None) -> Client:
    client = Client()
    client.engine = engine = Failing(client.settings)
    engine.nth, engine.trouble = nth, trouble
    return client


def files(count: int) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (f"{i}.png", str(i).encode())) for i in range(count)]


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.text.endswith("\n")
    return [json.loads(line) for line in response.text.splitlines()]


@pytest.mark.parametrize(
    ("query", "places"),
    [
        ("", [[0, 7], [8, 9]]),
        ("?chunk=4", [[0, 3], [4, 7], [8, 9]]),
        ("?chunk=5", [[0, 4], [5, 9]]),
        ("?chunk=10", [[0, 9]]),
        ("?chunk=999999999", [[0, 9]]),
        ("?chunk=1", [[i, i] for i in range(10)]),
    ],
)
def test_every_chunk_is_a_request_and_a_line(query: str, places: list[list[int]]) -> None:
    client = Client()
    answers = lines(client.post(f"{PATH}{query}", files=files(10), data={"stream": "camera-7", "top_k": "2"}))
    assert [answer.pop("images") for answer in answers] == places
    assert [call.images for call in client.engine.calls] == [
        [str(i).encode() for i in range(first, last + 1)] for first, last in places
    ]
    for step, answer in enumerate(answers, 1):
        checked = PredictResponse.model_validate(answer)
        assert (checked.stream, checked.step, len(checked.predictions[0].top_k)) == ("camera-7", step, 2)
        assert set(answer) == set(PredictResponse.model_fields) - {"explanation"}


def test_json_and_fields_in_the_query() -> None:
    client = Client()
    images = [base64.b64encode(bytes([i])).decode() for i in range(3)]
    url = f"{PATH}?chunk=2&stream=camera%207%20%C3%BC&update=false&params=%7B%22a%22:1%7D"
    answers = lines(client.post(url, json={"images": images, "strategy": "bn"}))
    assert [answer["images"] for answer in answers] == [[0, 1], [2, 2]]
    first, last = client.engine.calls
    assert first == Call([b"\0", b"\1"], "camera 7 ü", "bn", {"a": 1}, False)
    assert last == replace(first, images=[b"\2"])


@pytest.mark.parametrize("chunk", ["0", "-1", "many", "", "1.5", "9999999999"])
def test_a_wrong_chunk(chunk: str) -> None:
    client = Client()
    message = refusal(client.post(f"{PATH}?chunk={chunk}", files=files(1)), 422, "invalid_field", "chunk")
    assert "positive integer" in message
    assert client.engine.calls == []


def test_chunk_given_twice_or_elsewhere() -> None:
    refusal(Client().post(f"{PATH}?chunk=1&chunk=2", files=files(1)), 422, "invalid_field", "chunk")
    refusal(Client().post(PATH, files=files(1), data={"chunk": "2"}), 422, "invalid_field", "chunk")
    refusal(Client().post("/v1/predict?chunk=2", files=files(1)), 422, "invalid_field", "chunk")


@pytest.mark.parametrize(
    ("query", "sent", "status", "code", "location"),
    [
        ("?colour=red", files(1), 422, "invalid_field", "colour"),
        ("?top_k=8", files(1), 422, "invalid_field", "top_k"),
        ("", files(129), 413, "too_large", "files"),
    ],
)
def test_line_that_predict_refuses_is_refused(query: str, sent: Any, status: int, code: str, location: str) -> None:
    client = Client()
    refusal(client.post(f"{PATH}{query}", files=sent), status, code, location)
    assert client.engine.calls == []


def test_an_error_in_the_first_chunk_is_the_response() -> None:
    client = failing(0, ImageError("not an image", image=1))
    refusal(client.post(f"{PATH}?chunk=2", files=files(5)), 422, "unreadable_image", "files[1]")


def test_an_error_in_a_later_chunk_is_the_last_line() -> None:
    client = failing(1, ImageError("not an image", image=1))
    good, bad = lines(client.post(f"{PATH}?chunk=2", files=files(6)))
    assert (good["images"], good["step"]) == ([0, 1], 1)
    assert bad == {
        "images": [2, 3],
        "error": "not an image",
        "code": "unreadable_image",
        "where": "files[3]",
    }
    assert len(client.engine.calls) == 1


def test_an_error_that_no_image_is_to_blame_for() -> None:
    client = failing(1, UnanswerableError("not finite"))
    _, bad = lines(client.post(f"{PATH}?chunk=2", files=files(6)))
    assert bad == {"images": [2, 3], "error": "not finite", "code": "not_finite"}


def test_our_own_fault_in_a_later_chunk_is_logged_and_told_without_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    client = failing(1, ZeroDivisionError("a secret"))
    response = client.post(f"{PATH}?chunk=2", files=files(6))
    assert lines(response)[-1]["code"] == "internal"
    assert "secret" not in response.text
    assert "a secret" in caplog.text


def test_a_client_that_goes_leaves_the_other_chunks_without_a_step(caplog: pytest.LogCaptureFixture) -> None:
    client = failing(1, None)
    body = json.dumps({"images": [base64.b64encode(b"x").decode()] * 6}).encode()
    got: list[Any] = []

    async def scene() -> None:
        incoming: asyncio.Queue[Any] = asyncio.Queue()
        incoming.put_nowait({"type": "http.request", "body": body, "more_body": False})

        async def take(message: Any) -> None:
            got.append(message)
            if message.get("body"):
                incoming.put_nowait({"type": "http.disconnect"})

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "method": "POST",
            "path": PATH,
            "query_string": b"chunk=2",
            "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
        }
        async with client.app.router.lifespan_context(client.app):
            await asyncio.wait_for(client.app(scope, incoming.get, take), 5)

    with caplog.at_level(logging.WARNING):
        asyncio.run(scene())
    engine = client.engine
    assert isinstance(engine, Failing)
    assert (len(engine.calls), engine.called_off) == (1, 1)
    written = b"".join(message.get("body", b"") for message in got)
    assert [json.loads(line)["images"] for line in written.splitlines()] == [[0, 1]]
    assert caplog.records == []


def test_a_new_stream_begins_with_the_first_chunk_and_ends_with_the_last() -> None:
    call = Call([b"0", b"1", b"2", b"3", b"4"], start=True, end=True, request_id="r1")
    parts = split(PredictRequest(call, "files[{}]"), 2)
    assert [(part.first, part.last, part.request.call.images) for part in parts] == [
        (0, 1, [b"0", b"1"]),
        (2, 3, [b"2", b"3"]),
        (4, 4, [b"4"]),
    ]
    calls = [part.request.call for part in parts]
    assert [(one.start, one.end) for one in calls] == [(True, False), (False, False), (False, True)]
    # The same upload sent again is the same steps; no two chunks are taken for one.
    assert len({one.request_id for one in calls}) == 3
    assert calls == [part.request.call for part in split(PredictRequest(call, "files[{}]"), 2)]


def test_pixels_are_split_like_files() -> None:
    pixels = torch.arange(5 * 3).reshape(5, 1, 1, 3).to(torch.uint8)
    parts = split(PredictRequest(Call(pixels), "images[{}]"), 3)
    assert [len(part.request.call.images) for part in parts] == [3, 2]
    assert torch.equal(torch.cat([torch.as_tensor(part.request.call.images) for part in parts]), pixels)


def test_openapi_describes_predict_stream() -> None:
    document = Client().get("/openapi.json").json()
    shown = document["paths"][PATH]["post"]
    assert {one["name"] for one in shown["parameters"]} >= {"chunk", "stream", "strategy"}
    assert list(shown["responses"]["200"]["content"]) == ["application/x-ndjson"]
    assert {"413", "415", "422", "503"} <= set(shown["responses"])
    assert shown["requestBody"]["content"].keys() >= {"multipart/form-data", "application/json"}
