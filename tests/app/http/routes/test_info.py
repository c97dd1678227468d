import asyncio
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest

from adapters import COMBINATIONS, STRATEGIES, Lame, kind_of, name_of, schema, schema_of, strategy, whole
from app.engine import Engine
from tests.app import fakes
from tests.app.fakes import CLASSES, Client, refusal
from tests.app.small import small_engine


def test_strategies() -> None:
    listed = Client(strategy="bn").get("/v1/strategies").json()
    assert [one["name"] for one in listed] == [*COMBINATIONS, *STRATEGIES]
    assert [one["name"] for one in listed if one["default"]] == ["bn"]
    for one in listed:
        name = one["name"]
        part = STRATEGIES.get(name)
        assert one["parameters"] == (schema(part) if part else schema_of(name))
        assert one["kind"] == (kind_of(part) if part else "composite")
        assert "\n" not in one["description"]
        assert " ".join(one["documentation"].split()).startswith(one["description"])
        assert len(one["description"]) > 20
    adabn = next(one for one in listed if one["name"] == "adabn")
    assert adabn["description"] == "Replace the trained statistics by those of the stream, followed online."
    assert "Li et al. 2016" in adabn["documentation"]
    assert "\n    " not in adabn["documentation"]


def test_learners_and_correctors_say_which_adapter_they_go_with() -> None:
    for one in Client().get("/v1/strategies").json():
        adapter = whole(strategy(one["name"])).adapter
        assert one["adapter"] == (None if one["kind"] == "adapter" else name_of(adapter))


def test_a_default_of_several_parts_is_none_of_the_parts() -> None:
    client = Client(strategy="lame+unmix_tns")
    assert not [one for one in client.get("/v1/strategies").json() if one["default"]]
    assert client.get("/v1/strategies/unmix_tns+lame").json()["default"] is True
    assert client.get("/v1/strategies/unmix_tns").json()["default"] is False


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_each_strategy_by_itself(name: str) -> None:
    client = Client()
    listed = {one["name"]: one for one in client.get("/v1/strategies").json()}
    found = client.get(f"/v1/strategies/{name}").json()
    adapter = listed[name]["adapter"]
    assert found["parts"] == [listed[part] for part in ([adapter] if adapter else []) + [name]]
    assert (found["name"], found["parameters"]) == (name, schema_of(name))
    assert found["default"] == listed[name]["default"]


@pytest.mark.parametrize("written", ["unmix_tns%2Btent%2Blame", "lame+tent+unmix_tns", "unmix_tns%20tent%20lame"])
def test_a_combination(written: str) -> None:
    found = Client().get(f"/v1/strategies/{written}").json()
    assert found["name"] == "unmix_tns+tent+lame"
    assert [(part["name"], part["kind"]) for part in found["parts"]] == [
        ("unmix_tns", "adapter"),
        ("tent", "learner"),
        ("lame", "corrector"),
    ]
    papers = ("ICLR 2024", "Tent: Fully Test-time", "Boudiaf et al. 2022")
    for part, paper in zip(found["parts"], papers, strict=True):
        assert paper in part["documentation"]
    assert found["parameters"] == schema_of("unmix_tns+tent+lame")
    assert {"unmix_tns.momentum", "tent.lr", "lame.memory"} <= set(found["parameters"]["properties"])


def test_an_adapter_that_follows_is_left_out_of_the_name() -> None:
    found = Client().get("/v1/strategies/robust_bn+rotta").json()
    assert (found["name"], [part["name"] for part in found["parts"]]) == ("rotta", ["robust_bn", "rotta"])


@pytest.mark.parametrize(
    ("name", "status", "code", "location", "says"),
    [
        ("adabm", 404, "strategy_not_found", "name", "unknown strategy 'adabm': choose one of auto, source"),
        ("adabn+magic", 404, "strategy_not_found", "name", "unknown strategy 'magic' in 'adabn+magic'"),
        ("adabn+", 404, "strategy_not_found", "name", "empty part"),
        ("%00", 404, "strategy_not_found", "name", "GET /v1/strategies"),
        ("adabn+bn", 422, "invalid_strategy", "strategy", "both normalize"),
        ("tent+rotta", 422, "invalid_strategy", "strategy", "both learn"),
        ("lame+cofa", 422, "invalid_strategy", "strategy", "write cofa+lame"),
        ("adabn%2Fbn", 404, "not_found", None, "/docs"),
    ],
)
def test_unknown_strategy_is_not_found(name: str, status: int, code: str, location: str | None, says: str) -> None:
    assert says in refusal(Client().get(f"/v1/strategies/{name}"), status, code, location)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    opened = small_engine(strategy="lame+adabn")
    yield opened
    asyncio.run(opened.close())


def test_a_real_model_says_what_every_strategy_costs(engine: Engine) -> None:
    described = engine.describe()
    costs = described.state_bytes
    assert list(costs) == [*COMBINATIONS, *STRATEGIES]
    assert described.default_strategy == "adabn+lame"
    # 32 affine parameters: what was learned and Adam's two averages in float32, its count of steps in int64.
    drift = 4 * (2 * 8 + 2)
    assert (costs["bn"], costs["tent"]) == (drift, drift + 3 * 4 * 32 + 8)
    # COFA remembers the logits of four classes, and whether it has any.
    assert (costs["source"], costs["cofa"], costs["temperature"]) == (drift, drift + 4 * (4 + 1), drift)
    assert costs["lame"] == drift + sum(4 * field.numel() for field in Lame().init(features=8, classes=4))
    # The bank of RoTTA holds 64 images of 8 x 8 pixels and three colours, among other things.
    assert costs["rotta"] > costs["robust_bn"] + 64 * 8 * 8 * 3


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
        "drift_baseline": "measured",
        "notes": [],
        "weights": "",
    }


STATE = {
    "stream": "camera-7",
    "strategy": "adabn",
    "params": {"momentum": 0.1},
    "steps": 3,
    "images": 9,
    "bytes": 512,
    "drift": 0.5,
    "adaptation": 0.25,
    "entropy": 0.25,
    "age_s": 1.5,
    "explanation": None,
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
