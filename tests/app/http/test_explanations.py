"""``explain``: every door passes it on, and its answer carries the engine's explanation; otherwise nothing of it."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from typing import Any

import grpc
import pytest

from app.explanation_schema import ExplanationResponse
from app.schemas import PredictResponse
from tests.app.fakes import EXPLANATION, Client, refusal
from tests.app.http.cameras import PATH, Camera, play
from tests.app.rpc.doors import Channel, ask, refused, talk, values_of

IMAGE = b"an image"
FILES = {"files": ("a.png", IMAGE)}
JSON = {"images": [base64.b64encode(IMAGE).decode()]}


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("?explain=true", {"content": IMAGE}),
        ("?explain=1", {"files": FILES}),
        ("", {"files": FILES, "data": {"explain": "true"}}),
        ("", {"json": {**JSON, "explain": True}}),
        ("?explain=TRUE", {"json": JSON}),
    ],
    ids=["raw", "form and query", "form", "json", "json and query"],
)
@pytest.mark.parametrize("path", ["/v1/predict", "/v1/predict/stream"])
def test_an_answer_carries_the_explanation_that_is_asked_for(path: str, query: str, body: dict[str, Any]) -> None:
    client = Client()
    answer = client.post(f"{path}{query}", **body).json()
    assert answer["explanation"] == asdict(EXPLANATION)
    assert PredictResponse.model_validate(answer).explanation == ExplanationResponse(**asdict(EXPLANATION))
    assert client.engine.calls[0].explain


@pytest.mark.parametrize("query", ["", "?explain=false", "?explain=0"])
def test_an_answer_without_the_option_has_no_trace_of_it(query: str) -> None:
    client = Client()
    response = client.post(f"/v1/predict{query}", content=IMAGE)
    assert "explanation" not in response.json()
    assert not client.engine.calls[0].explain
    assert "explanation" not in PredictResponse.model_validate(response.json()).model_dump()


def test_a_connection_explains_each_of_its_frames() -> None:
    async def scene(client: Client) -> None:
        async with Camera(client, f"{PATH}?explain=true") as camera:
            await camera.opened()
            camera.send(b"one", b"two")
            answers = await camera.answers(2)
        assert [answer["explanation"] for answer in answers] == [asdict(EXPLANATION)] * 2

    play(scene)


@pytest.mark.parametrize("asks", [True, False])
def test_a_parameter_of_the_open_inference_protocol_asks_for_it(asks: bool) -> None:
    client = Client()
    inputs = [{"name": "bytes", "datatype": "BYTES", "shape": [1], "data": JSON["images"]}]
    body = {"inputs": inputs, "parameters": {"renorm_explain": asks}}
    parameters = client.post("/v2/models/fake-net/infer", json=body).json()["parameters"]
    assert client.engine.calls[0].explain is asks
    if asks:
        assert json.loads(parameters["renorm_explanation"]) == asdict(EXPLANATION)
    else:
        assert "renorm_explanation" not in parameters


def test_another_value_of_the_parameter_is_refused() -> None:
    body = {"inputs": [], "parameters": {"renorm_explain": "yes"}}
    response = Client().post("/v2/models/fake-net/infer", json=body)
    assert response.status_code == 400


def test_the_parameter_over_grpc() -> None:
    client = Client(grpc_port=0)

    async def use(channel: Channel) -> Any:
        return await channel.call("ModelInfer", ask(renorm_explain=True))

    parameters = values_of(talk(client, use).parameters)
    assert json.loads(parameters["renorm_explanation"]) == asdict(EXPLANATION)
    code, message, _ = refused(client, "ModelInfer", ask(renorm_explain=1))
    assert (code, "true or false" in message) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_the_message_about_a_wrong_value_says_what_is_valid() -> None:
    message = refusal(Client().post("/v1/predict?explain=yes", content=IMAGE), 422, "invalid_field", "explain")
    assert message == "explain must be true or false, not 'yes'"
