import math
from dataclasses import replace

import pytest

from adapters import STRATEGIES, schema
from tests.app import fakes
from tests.app.fakes import CLASSES, Client, refusal


def test_strategies() -> None:
    listed = Client(strategy="bn").get("/v1/strategies").json()
    assert [one["name"] for one in listed] == list(STRATEGIES)
    assert [one["name"] for one in listed if one["default"]] == ["bn"]
    for one in listed:
        assert one["parameters"] == schema(STRATEGIES[one["name"]])
        assert "\n" not in one["description"]
        assert " ".join(one["documentation"].split()).startswith(one["description"])
        assert len(one["description"]) > 20
    adabn = next(one for one in listed if one["name"] == "adabn")
    assert adabn["description"] == "Replace the trained statistics by those of the stream, followed online."
    assert "Li et al. 2016" in adabn["documentation"]
    assert "\n    " not in adabn["documentation"]


def test_model() -> None:
    response = Client().get("/v1/model")
    assert response.status_code == 200
    assert response.json() == {
        "name": "fake-net",
        "architecture": "Identity",
        "parameters": 7,
        "classes": CLASSES,
        "preprocessing": {"size": 32, "mean": [0.5, 0.5, 0.5]},
        "sites": [{"name": "bn1", "kind": "BatchNorm2d", "channels": 16}],
        "channels": 16,
        "state_bytes": {"source": 0, "adabn": 132},
        "device": "cpu",
        "dtype": "float32",
        "default_strategy": "adabn",
        "card": "",
    }


STATE = {
    "stream": "camera-7",
    "strategy": "adabn",
    "params": {"momentum": 0.1},
    "steps": 3,
    "images": 9,
    "bytes": 512,
    "drift": 0.5,
    "entropy": 0.25,
    "age_s": 1.5,
}


def test_streams() -> None:
    response = Client().get("/v1/streams")
    assert response.json() == {"streams": [STATE], "bytes": 512, "capacity_bytes": 1000, "evictions": 1}


def test_one_stream() -> None:
    assert Client().get("/v1/streams/camera-7").json() == [STATE]


def test_unknown_and_impossible_streams() -> None:
    client = Client()
    assert "first request" in refusal(client.get("/v1/streams/camera-9"), 404, "stream_not_found")
    refusal(client.get("/v1/streams/" + "x" * 129), 422, "invalid_field", "stream")
    refusal(client.get("/v1/streams/a%00b"), 422, "invalid_field", "stream")
    refusal(client.get("/v1/streams/a%2Fb"), 404, "not_found")


def test_numbers_that_are_not_finite_become_null(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fakes, "STATE", replace(fakes.STATE, drift=math.inf, entropy=math.nan))
    [state] = Client().get("/v1/streams/camera-7").json()
    assert state == {**STATE, "drift": None, "entropy": None}
