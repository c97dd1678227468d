"""The product as its user has it: the real command, the bundled model, real corrupted images, over a socket."""

from __future__ import annotations

import io
import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.served import ROOT, served

SAMPLE = ROOT / "benchmarks" / "sample"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served() as server:
        yield server.url


def images(name: str) -> NDArray[np.uint8]:
    loaded: NDArray[np.uint8] = np.load(SAMPLE / f"{name}.npy")
    return loaded


def png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def predict(url: str, batch: NDArray[np.uint8], stream: str, strategy: str = "adabn") -> dict[str, Any]:
    files = [("files", ("image.png", png(pixels), "image/png")) for pixels in batch]
    answer = httpx.post(f"{url}/v1/predict", files=files, data={"stream": stream, "strategy": strategy}, timeout=60)
    assert answer.status_code == 200, answer.text
    parsed: dict[str, Any] = answer.json()
    return parsed


def probabilities(answer: dict[str, Any]) -> list[float]:
    return [prediction["probability"] for prediction in answer["predictions"]]


def error(url: str, name: str, strategy: str) -> float:
    labels = np.load(SAMPLE / "labels.npy")
    batches = np.array_split(images(name), len(labels) // 50)
    answers = [predict(url, batch, f"{name}-{strategy}", strategy) for batch in batches]
    found = [prediction["index"] for answer in answers for prediction in answer["predictions"]]
    return float(100 * np.mean(np.array(found) != labels))


@pytest.mark.parametrize("name", sorted(path.stem for path in SAMPLE.glob("*.npy") if path.stem != "labels"))
def test_adapting_beats_the_frozen_model_on_shifted_images_and_spares_clean_ones(url: str, name: str) -> None:
    source, adapted = error(url, name, "source"), error(url, name, "adabn")
    if name == "clean":
        assert adapted <= source + 2
    else:
        assert adapted <= source - 10


def test_two_streams_under_sixteen_clients_answer_as_each_does_alone(url: str) -> None:
    batches = {name: np.array_split(images(name)[:48], 24) for name in ("gaussian_noise", "contrast")}
    work = [(name, i) for i in range(24) for name in batches]

    def send(item: tuple[str, int]) -> tuple[str, int, dict[str, Any]]:
        name, i = item
        return name, i, predict(url, batches[name][i], f"crowd-{name}")

    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(send, work))
    for name in batches:
        ordered = sorted((answer["step"], i, answer) for stream, i, answer in answers if stream == name)
        assert [step for step, _, _ in ordered] == list(range(1, 25))
        for step, i, answer in ordered:
            alone = predict(url, batches[name][i], f"alone-{name}")
            assert alone["step"] == step
            assert [p["index"] for p in alone["predictions"]] == [p["index"] for p in answer["predictions"]]
            assert probabilities(alone) == pytest.approx(probabilities(answer), abs=1e-4)


def test_after_a_reset_the_same_requests_are_answered_the_same(url: str) -> None:
    batches = np.array_split(images("contrast")[:40], 4)
    first = [predict(url, batch, "again") for batch in batches]
    reset = httpx.post(f"{url}/v1/admin/reset", json={"stream": "again"})
    assert (reset.status_code, reset.json()["forgotten"]) == (200, 1)
    second = [predict(url, batch, "again") for batch in batches]
    for a, b in zip(first, second, strict=True):
        assert (a["predictions"], a["step"], a["drift"]) == (b["predictions"], b["step"], b["drift"])
    assert probabilities(predict(url, batches[0], "again")) != probabilities(first[0])


def gif() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def bomb() -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(buffer, "PNG")
    return buffer.getvalue()


GOOD = ("files", ("good.png", png(images("clean")[0])))
BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "empty": ({"files": [GOOD, ("files", ("a.png", b""))]}, 422, "0 bytes"),
    "unreadable": ({"files": [GOOD, ("files", ("a.png", b"<html></html>"))]}, 422, "HTML"),
    "truncated": ({"files": [GOOD, ("files", ("a.png", GOOD[1][1][:200]))]}, 422, "truncated"),
    "animated": ({"files": [GOOD, ("files", ("a.gif", gif()))]}, 422, "animated"),
    "too many pixels": ({"files": [GOOD, ("files", ("a.png", bomb()))]}, 413, "10000 x 10000"),
    "too many bytes": ({"files": [GOOD, ("files", ("a.png", b"\x89PNG" + bytes(21_000_000)))]}, 413, "bytes"),
    "too many images": ({"files": [GOOD] * 129}, 413, "at most 128"),
    "no image": ({"files": [("top_k", (None, "1"))]}, 422, "no image"),
    "fields alone": ({"data": {"top_k": "1"}}, 422, "look like a URL-encoded form"),
    "unknown strategy": ({"files": [GOOD], "data": {"strategy": "magic"}}, 422, "choose one of auto, source"),
    "unknown parameter": (
        {"files": [GOOD], "data": {"params": '{"speed": 1}'}},
        422,
        "it takes shrinkage.independent_images",
    ),
    "parameter out of range": ({"files": [GOOD], "data": {"params": '{"adapted_depth": 2}'}}, 422, "at most 1"),
    "wrong type": ({"files": [GOOD], "data": {"params": '{"alarm": "fast"}'}}, 422, "must be a number"),
    "unknown field": ({"files": [GOOD], "data": {"colour": "red"}}, 422, "the fields are"),
    "top_k out of range": ({"files": [GOOD], "data": {"top_k": "11"}}, 422, "from 1 to 10"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_is_explained_and_moves_no_state(url: str, case: str) -> None:
    stream = f"bad-{case}"
    predict(url, images("fog")[:3], stream)
    before = httpx.get(f"{url}/v1/streams/{stream}").json()
    request, status, says = BAD[case]
    answer = httpx.post(f"{url}/v1/predict", params={"stream": stream}, timeout=60, **request)
    assert (answer.status_code, set(answer.json()) >= {"error", "code"}) == (status, True), answer.text
    assert says in answer.json()["error"]
    after = httpx.get(f"{url}/v1/streams/{stream}").json()
    assert [state | {"age_s": 0} for state in after] == [state | {"age_s": 0} for state in before]


def test_the_readmes_first_request_has_the_readmes_answer(url: str) -> None:
    readme = (ROOT / "README.md").read_text()
    found = re.search(r"```sh\n(curl .*?)```\n+```json\n(.*?)```", readme, re.DOTALL)
    assert found is not None
    httpx.post(f"{url}/v1/admin/reset", json={"all": True})
    answer, expected = shell(found[1], url), json.loads(found[2])
    assert answer.pop("timing_ms").keys() == expected.pop("timing_ms").keys()
    assert _rounded(answer) == _rounded(expected)


def test_the_requests_of_the_api_page_are_answered(url: str) -> None:
    commands = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL)
    answers = [shell(command, url) for command in commands]
    assert [len(answer["predictions"]) for answer in answers if "predictions" in answer] == [2, 1, 1, 1]
    assert {answer["stream"] for answer in answers} == {"camera-7"}
    assert answers[-1]["forgotten"] >= 1


def test_the_requests_of_the_strategies_page_have_its_answers(url: str) -> None:
    httpx.post(f"{url}/v1/admin/reset", json={"all": True})
    pairs = re.findall(r"```sh\n(.*?)```\n+```json\n(.*?)```", (ROOT / "docs" / "strategies.md").read_text(), re.DOTALL)
    assert len(pairs) == 2
    for command, said in pairs:
        answer, expected = shell(command, url), json.loads(said)
        assert answer.pop("timing_ms", {}).keys() == expected.pop("timing_ms", {}).keys()
        assert _rounded(answer) == _rounded(expected)


def shell(command: str, url: str) -> Any:
    """What a command of the documentation prints when it is sent to this server."""
    here = command.replace("http://127.0.0.1:8000", url)
    return json.loads(subprocess.run(["bash", "-c", here], cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def _rounded(value: Any) -> Any:
    """The same with numbers to three places: another processor may round the last ones differently."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 3) if isinstance(value, float) else value
