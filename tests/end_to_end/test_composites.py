"""Learners and correctors as their users have them: the real command, over a socket, in every form of request."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from adapters import COMBINATIONS, STRATEGIES
from app.client import Client, Refused
from tests.composite_forms import FORMS, LAME, MEMORY, by_json
from tests.end_to_end.test_command import images, png
from tests.served import served

FOG = images("fog")
MOST = 60
TENT: dict[str, Any] = {"strategy": "unmix_tns+tent", "params": {"tent.lr": 0.05}}


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    # Room for few streams, so that a crowd of them makes others leave.
    with served("--max-streams", str(MOST)) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def predict(http: httpx.Client, pixels: NDArray[np.uint8], stream: str, **asked: Any) -> dict[str, Any]:
    headers = {"Idempotency-Key": asked.pop("request_id")} if "request_id" in asked else {}
    body = {"images": [base64.b64encode(png(one)).decode() for one in pixels], "stream": stream, **asked}
    answer = http.post("/v1/predict", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def shares(answer: dict[str, Any]) -> list[list[float]]:
    return [[one["probability"] for one in image["top_k"]] for image in answer["predictions"]]


def essence(answer: dict[str, Any]) -> dict[str, Any]:
    """What of an answer is the same when it is given again."""
    return {name: value for name, value in answer.items() if name not in ("timing_ms", "stream")}


def states(http: httpx.Client, stream: str) -> list[dict[str, Any]]:
    """What is told of a stream, without its age."""
    found = http.get(f"/v1/streams/{stream}")
    return [{**one, "age_s": 0} for one in found.json()] if found.status_code == 200 else []


def reset(http: httpx.Client, stream: str) -> int:
    return int(http.post("/v1/admin/reset", json={"stream": stream}).json()["forgotten"])


# Every form of request


def test_every_form_of_request_means_the_same(http: httpx.Client) -> None:
    frames = [png(one) for one in FOG[: len(FORMS)]]
    expected = [essence(by_json(http, frame, "form-expected")) for frame in frames]
    assert [one["step"] for one in expected] == list(range(1, len(FORMS) + 1))
    assert {one["strategy"] for one in expected} == {LAME}
    assert expected[0]["params"]["lame.memory"] == 16
    plain = [predict(http, FOG[i : i + 1], "form-plain", strategy="adabn") for i in range(len(FORMS))]
    assert [shares(one) for one in plain] != [shares(one) for one in expected]
    for form in FORMS:
        found = [essence(form(http, frame, f"form-{form.__name__}")) for frame in frames]
        assert found == expected, form.__name__
    # And mixed, on one stream.
    mixed = [essence(form(http, frame, "form-mixed")) for form, frame in zip(FORMS, frames, strict=True)]
    assert mixed == expected


@pytest.mark.parametrize(
    "given",
    [
        {"renorm_params": json.dumps(MEMORY)},
        {"renorm_lame.memory": 16, "renorm_lame.when": "always"},
        {"renorm_memory": 16, "renorm_lame.when": "always"},
    ],
)
def test_parameters_of_the_open_inference_protocol(http: httpx.Client, given: dict[str, Any]) -> None:
    pixels = FOG[:8]
    body = {
        "parameters": {"sequence_id": f"v2-{next(iter(given))}", "renorm_strategy": LAME, **given},
        "inputs": [
            {"name": "image", "datatype": "UINT8", "shape": list(pixels.shape), "data": pixels.flatten().tolist()}
        ],
    }
    answer = http.post("/v2/models/cifar10-resnet20/infer", json=body)
    assert answer.status_code == 200, answer.text
    said = answer.json()["parameters"]
    direct = predict(http, pixels, f"direct-{next(iter(given))}", strategy=LAME, params=MEMORY)
    found = next(one for one in answer.json()["outputs"] if one["name"] == "probabilities")
    best = np.reshape(found["data"], found["shape"]).max(1)
    np.testing.assert_allclose(best, [one["probability"] for one in direct["predictions"]], atol=1e-5)
    assert said["renorm_strategy"] == LAME


def test_every_listed_combination_can_be_requested(http: httpx.Client) -> None:
    with Client(str(http.base_url)) as client:
        listed = {one.name: one for one in client.strategies()}
        assert list(listed) == [*COMBINATIONS, *STRATEGIES]
        assert list(client.model().state_bytes) == [*COMBINATIONS, *STRATEGIES]
        found = client.strategy("lame+adabn")
        assert (found.name, [part.name for part in found.parts]) == (LAME, ["adabn", "lame"])
        assert [found.parts[0], found.parts[1]] == [listed["adabn"], listed["lame"]]
        with pytest.raises(Refused, match="both normalize"):
            client.strategy("adabn+bn")
    for name, one in listed.items():
        others = {"adapter": f"{name}+cofa", "composite": f"cofa+{name}"}
        for asked in (name, others.get(one.kind, f"adabn+{name}")):
            # A temperature that nobody fitted must be given.
            params = {"temperature.temperature": 2} if name == "temperature" else {}
            answer = predict(http, FOG[:2], "listed", strategy=asked, params=params)
            properties = http.get(f"/v1/strategies/{asked}").json()["parameters"]["properties"]
            assert list(answer["params"]) == list(properties)


# Learning


def lessons(http: httpx.Client, stream: str, count: int = 6) -> list[dict[str, Any]]:
    return [predict(http, FOG[8 * i : 8 * i + 8], stream, **TENT) for i in range(count)]


def test_a_stream_learns_and_a_reset_brings_its_first_answers_back(http: httpx.Client) -> None:
    first = lessons(http, "learns")
    assert [answer["step"] for answer in first] == [1, 2, 3, 4, 5, 6]
    still = [predict(http, FOG[8 * i : 8 * i + 8], "learns-not", strategy="unmix_tns") for i in range(6)]
    # The first answer is from before any lesson; later ones differ.
    assert shares(first[0]) == shares(still[0])
    for learned, other in zip(first[1:], still[1:], strict=True):
        assert shares(learned) != shares(other)
        assert learned["drift"] == other["drift"]  # of what is seen, not of what was learned
    before = predict(http, FOG[:8], "learns", update=False, **TENT)
    assert shares(before) != shares(first[0])
    assert reset(http, "learns") == 1
    assert states(http, "learns") == []
    again = lessons(http, "learns")
    assert [essence(answer) for answer in again] == [essence(answer) for answer in first]


def test_asking_without_update_teaches_nothing(http: httpx.Client) -> None:
    lessons(http, "looks", 2)
    told = states(http, "looks")
    looks = [predict(http, FOG[:8], "looks", update=False, **TENT) for _ in range(3)]
    assert {answer["step"] for answer in looks} == {2}
    assert {answer["updated"] for answer in looks} == {False}
    assert shares(looks[0]) == shares(looks[1]) == shares(looks[2])
    assert states(http, "looks") == told


def test_a_repeated_request_teaches_once(http: httpx.Client) -> None:
    once = lessons(http, "once", 3)
    twice = []
    for i in range(3):
        batch = FOG[8 * i : 8 * i + 8]
        answers = [predict(http, batch, "twice", request_id=f"r{i}", **TENT) for _ in range(3)]
        assert [essence(answer) for answer in answers] == [essence(answers[0])] * 3
        twice.append(answers[0])
    assert [essence(answer) for answer in twice] == [essence(answer) for answer in once]
    assert states(http, "twice")[0]["steps"] == 3


def test_rotta_updates_after_64_images(http: httpx.Client) -> None:
    params = {"rotta.teacher_rate": 0.5, "rotta.lr": 0.02}
    answers = [predict(http, FOG[16 * i : 16 * i + 16], "rotta", strategy="rotta", params=params) for i in range(6)]
    # Until then the teacher answers with the trained statistics, as `source` does.
    frozen = [predict(http, FOG[16 * i : 16 * i + 16], "frozen", strategy="source") for i in range(6)]
    for i, (answer, other) in enumerate(zip(answers, frozen, strict=True)):
        close = np.allclose(shares(answer), shares(other), atol=1e-4)
        assert close == (i < 4), i
    assert answers[0]["params"]["robust_bn.momentum"] == 0.05
    assert answers[-1]["strategy"] == "rotta"


def test_bytes_hold_what_learners_and_correctors_remember(http: httpx.Client) -> None:
    costs = http.get("/v1/model").json()["state_bytes"]
    affine = 2 * http.get("/v1/model").json()["channels"]
    asked = {
        "unmix_tns+tent": (costs["unmix_tns"] + 3 * 4 * affine + 8, {}),
        # Features of 64 channels, scores of ten classes, and how many are held.
        "adabn+lame": (costs["adabn"] + 4 * (16 * (64 + 10) + 1), MEMORY),
        "unmix_tns+tent+cofa": (costs["unmix_tns"] + 3 * 4 * affine + 8 + 4 * 11, {}),
        "rotta": (costs["rotta"], {}),
    }
    for name, (_, params) in asked.items():
        predict(http, FOG[:4], "bytes", strategy=name, params=params)
        # A lesson comes after its answer; the stream's next request comes after the lesson.
        predict(http, FOG[:4], "bytes", strategy=name, params=params, update=False)
    found = {one["strategy"]: one["bytes"] for one in states(http, "bytes")}
    assert found == {name: size for name, (size, _) in asked.items()}
    held = http.get("/v1/streams").json()
    assert held["bytes"] == sum(one["bytes"] for one in held["streams"])


# What is refused

BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "two adapters": ({"strategy": "adabn+bn"}, "invalid_strategy", "both normalize"),
    "two learners": ({"strategy": "tent+rotta"}, "invalid_strategy", "both learn"),
    "a corrector twice": ({"strategy": "adabn+cofa+cofa"}, "invalid_strategy", "cofa appears twice"),
    "lame before another": ({"strategy": "lame+temperature"}, "invalid_strategy", "write temperature+lame"),
    "unknown part": ({"strategy": "adabn+magic"}, "unknown_strategy", "unknown strategy 'magic' in 'adabn+magic'"),
    "empty part": ({"strategy": "adabn+"}, "unknown_strategy", "empty part"),
    "unknown parameter": ({"params": {"lame.speed": 1}}, "invalid_parameter", "it takes adabn.momentum"),
    "of another part": ({"params": {"tent.lr": 0.1}}, "invalid_parameter", "no parameter 'tent.lr'"),
    "given twice": ({"params": {"memory": 1, "lame.memory": 1}}, "invalid_parameter", "lame.memory of strategy"),
    "out of range": ({"params": {"lame.memory": 5000}}, "invalid_parameter", "lame: memory must be an integer (at"),
    "ambiguous": (
        {"strategy": "unmix_tns+temperature", "params": {"temperature": 2}},
        "invalid_parameter",
        "write unmix_tns.temperature or temperature.temperature",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_combinations_are_explained_and_move_no_state(http: httpx.Client, case: str) -> None:
    asked, code, says = BAD[case]
    predict(http, FOG[:3], "bad", strategy=LAME)
    before = states(http, "bad")
    body = {"images": [base64.b64encode(png(FOG[0])).decode()], "stream": "bad", "strategy": LAME, **asked}
    answer = http.post("/v1/predict", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert says in answer.json()["error"]
    assert answer.json()["where"] == ("params" if code == "invalid_parameter" else "strategy")
    assert states(http, "bad") == before


# Under load


def together(calls: list[Callable[[], Any]]) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [done.result() for done in [pool.submit(call) for call in calls]]


def test_requests_of_one_stream_sent_at_once_each_meet_the_lesson_of_the_one_before(http: httpx.Client) -> None:
    def ask(i: int) -> Callable[[], dict[str, Any]]:
        return lambda: {"i": i, **predict(http, FOG[4 * i : 4 * i + 4], "crowd", **TENT)}

    noise: list[Callable[[], Any]] = [
        lambda: predict(http, FOG[:2], "crowd-other", strategy="adabn+cofa") for _ in range(6)
    ]
    answers = [one for one in together([*map(ask, range(10)), *noise]) if "i" in one]
    answers.sort(key=lambda answer: answer["step"])
    assert [answer["step"] for answer in answers] == list(range(1, 11))
    for answer in answers:
        i = answer["i"]
        alone = predict(http, FOG[4 * i : 4 * i + 4], "crowd-alone", **TENT)
        assert alone["step"] == answer["step"]
        np.testing.assert_allclose(shares(alone), shares(answer), atol=2e-4)


def test_resets_between_learning_requests_leave_no_half_learned_stream(http: httpx.Client) -> None:
    fresh = [shares(predict(http, FOG[:4], "half-fresh", **TENT)) for _ in range(12)]

    def step() -> dict[str, Any]:
        return predict(http, FOG[:4], "half", **TENT)

    def forget() -> int:
        return reset(http, "half")

    found = together([step, step, forget, step, step, forget, step, step, forget, step, step, step])
    answers = [one for one in found if isinstance(one, dict)]
    # Whatever order they came in: an answer that says step k is the k-th of a stream that is new, to rounding.
    for answer in answers:
        np.testing.assert_allclose(shares(answer), fresh[answer["step"] - 1], atol=2e-4)
    assert sum(answer["step"] == 1 for answer in answers) >= 1
    reset(http, "half")
    assert essence(step()) == essence(predict(http, FOG[:4], "half-new", **TENT))


def test_evicted_streams_begin_anew_though_lessons_are_due(http: httpx.Client) -> None:
    first = predict(http, FOG[:4], "leaves", **TENT)
    evictions = http.get("/v1/streams").json()["evictions"]
    crowd = [f"crowd-{i}" for i in range(MOST + 4)]
    together([lambda name=name: predict(http, FOG[:4], name, **TENT) for name in crowd])  # type: ignore[misc]
    held = http.get("/v1/streams").json()
    assert len(held["streams"]) == MOST
    assert held["evictions"] >= evictions + 5
    again = predict(http, FOG[:4], "leaves", **TENT)
    assert essence(again) == {**essence(first), "state_origin": "evicted"}
    predict(http, FOG[:4], "leaves", update=False, **TENT)
    held = http.get("/v1/streams").json()
    assert held["bytes"] == sum(one["bytes"] for one in held["streams"])
    assert len(held["streams"]) == MOST
