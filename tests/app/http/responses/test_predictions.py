"""The bytes of an answer: what the documented schema says, digit by digit, whoever encodes them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from app.http.responses.predictions import LARGE, encode_prediction
from app.schemas import ImagePrediction, PredictResponse, RankedClass, TimingResponse
from app.types import Prediction, Timing
from tests.app.fakes import Client

CLASSES = ["cat", 'a "quoted" class', "ünïcödé", "back\\slash", "line\nbreak"]


def prediction(**changed: Any) -> Prediction:
    told: dict[str, Any] = {
        "probabilities": torch.zeros(2, 5),
        "classes": [[2, 0, 1], [4, 3, 0]],
        "shares": [[0.9312345678, 0.05, 1e-9], [1.0, 0.0, 0.0]],
        "entropy": 0.123456789,
        "strategy": "adabn",
        "params": {"momentum": 0.1, "reference_images": None, "own": True, "start": "centred"},
        "step": 12,
        "updated": True,
        "drift": 12345.6789,
        "adaptation": 0.25,
        "timing": Timing(1.8, 0.2, 9.6, 11.7),
    }
    return Prediction(**{**told, **changed})


def of_the_schema(said: Prediction) -> PredictResponse:
    """The same answer, built from the models that document it."""
    ranked = [
        [RankedClass(label=CLASSES[i], index=i, probability=float(f"{p:.6g}")) for i, p in zip(*row, strict=True)]
        for row in zip(said.classes, said.shares, strict=True)
    ]
    return PredictResponse(
        model="net",
        stream="camera 7 ü",
        strategy=said.strategy,
        params=said.params,
        step=said.step,
        updated=said.updated,
        state_origin=said.state_origin,
        drift=float(f"{said.drift:.6g}"),
        adaptation=float(f"{said.adaptation:.6g}"),
        entropy=float(f"{said.entropy:.6g}"),
        predictions=[ImagePrediction(**dict(top[0]), top_k=top) for top in ranked],
        timing_ms=TimingResponse.model_validate(said.timing._asdict()),
    )


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"drift": math.nan},
        {"drift": math.inf},
        {"adaptation": math.inf},
        {"updated": False, "step": 0},
        {"state_origin": "evicted"},
        {"params": {}},
        {"entropy": 0.0},
    ],
)
def test_an_answer_is_what_the_schema_documents(changed: dict[str, Any]) -> None:
    said = prediction(**changed)
    content = encode_prediction(said, "camera 7 ü", "net", CLASSES)
    expected = of_the_schema(said)
    assert PredictResponse.model_validate_json(content) == expected
    # Names and their order too: nothing is added, and nothing left out.
    assert json.dumps(json.loads(content)) == json.dumps(expected.model_dump())


def test_numbers_have_six_significant_digits() -> None:
    answer = json.loads(encode_prediction(prediction(), "s", "net", CLASSES))
    assert (answer["drift"], answer["entropy"]) == (12345.7, 0.123457)
    assert [top["probability"] for top in answer["predictions"][0]["top_k"]] == [0.931235, 0.05, 1e-9]


def test_a_whole_number_beyond_64_bits_is_written_as_it_is() -> None:
    said = prediction(params={"reference_images": 10**30})
    content = encode_prediction(said, "camera 7 ü", "net", CLASSES)
    assert json.loads(content)["params"] == {"reference_images": 10**30}
    small = json.loads(encode_prediction(prediction(params={"reference_images": 1}), "camera 7 ü", "net", CLASSES))
    assert {**json.loads(content), "params": 0} == {**small, "params": 0}


def test_probabilities_that_are_not_finite_are_not_written() -> None:
    with pytest.raises(ValueError, match="not finite"):
        encode_prediction(prediction(entropy=math.nan), "s", "net", CLASSES)


@pytest.mark.parametrize("images", [1, LARGE // 7 + 1])
def test_responses_of_any_size_fit_the_schema(images: int) -> None:
    client = Client(max_images=1000)
    files = [("files", ("a.png", b"any"))] * images
    response = client.post("/v1/predict?top_k=7", files=files)
    assert response.headers["content-type"] == "application/json"
    answer = PredictResponse.model_validate_json(response.content)
    assert [len(one.top_k) for one in answer.predictions] == [7] * images
    assert json.dumps(response.json()) == json.dumps(answer.model_dump())
