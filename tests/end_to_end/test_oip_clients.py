"""The Open Inference Protocol as NVIDIA's client speaks it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from tritonclient import http
from tritonclient.utils import InferenceServerException

from tests.oip_frames import FRAMES, MODEL, expected, files, prepared, shares, tensor
from tests.served import served


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served() as server:
        yield server.url.removeprefix("http://")


@pytest.fixture(scope="module")
def triton(url: str) -> Iterator[Any]:
    with http.InferenceServerClient(url) as client:
        yield client


def test_the_ten_core_calls(triton: Any, url: str) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready(MODEL)
    assert triton.is_model_ready(MODEL, "1")
    assert not triton.is_model_ready(MODEL, "2")
    assert not triton.is_model_ready("other")
    assert triton.get_server_metadata()["name"] == "renorm"
    assert triton.get_model_metadata(MODEL)["inputs"][0]["shape"] == [-1, 3, 32, 32]
    assert triton.get_model_config(MODEL)["max_batch_size"] == 128
    assert triton.get_inference_statistics()["model_stats"][0]["name"] == MODEL
    assert triton.get_inference_statistics(MODEL, "1")["model_stats"][0]["version"] == "1"
    assert [entry["state"] for entry in triton.get_model_repository_index()] == ["READY"]
    given = prepared(url, FRAMES)
    asked = [http.InferRequestedOutput("probabilities", binary_data=False)]
    text = tensor(http, given, "FP32", binary=False)
    explicit = triton.infer(MODEL, [text], outputs=asked, sequence_id="ten-1").as_numpy("probabilities")
    default = triton.infer(MODEL, [text], sequence_id="ten-2").as_numpy("probabilities")
    binary = triton.infer(MODEL, [tensor(http, given, "FP32")], sequence_id="ten-3").as_numpy("probabilities")
    own = shares(expected(url, FRAMES, "ten-4"))
    for found in (explicit, default, binary):
        assert found.shape == (8, 10)
        assert found == pytest.approx(own, abs=1e-6)


@pytest.mark.parametrize("kind", ["UINT8", "FP32", "FP16", "FP64", "BYTES", "BYTES in a column"])
def test_every_kind_of_input_is_answered_as_its_file_is(triton: Any, url: str, kind: str) -> None:
    given = {
        "UINT8": lambda: tensor(http, FRAMES, "UINT8"),
        "FP32": lambda: tensor(http, prepared(url, FRAMES), "FP32"),
        "FP16": lambda: tensor(http, prepared(url, FRAMES).astype(np.float16), "FP16"),
        "FP64": lambda: tensor(http, prepared(url, FRAMES).astype(np.float64), "FP64"),
        "BYTES": lambda: tensor(http, files(FRAMES), "BYTES"),
        "BYTES in a column": lambda: tensor(http, files(FRAMES).reshape(-1, 1), "BYTES"),
    }[kind]()
    result = triton.infer(MODEL, [given], sequence_id=f"kind-{kind}-a")
    own = expected(url, FRAMES, f"kind-{kind}-b")
    assert result.as_numpy("probabilities") == pytest.approx(shares(own), abs=2e-3 if kind == "FP16" else 1e-6)
    assert [text.decode() for text in result.as_numpy("label")] == [one["label"] for one in own["predictions"]]
    assert result.as_numpy("index").tolist() == [one["index"] for one in own["predictions"]]


def test_a_sequence_is_a_stream(triton: Any, url: str) -> None:
    def send(i: int, **said: Any) -> Any:
        result = triton.infer(MODEL, [tensor(http, FRAMES[i : i + 1], "UINT8")], sequence_id=77, **said)
        return result.get_response()["parameters"], result.as_numpy("probabilities")

    first = [send(i) for i in range(3)]  # no start needed
    assert [said["renorm_step"] for said, _ in first] == [1, 2, 3]
    assert {said["renorm_stream"] for said, _ in first} == {"77"}
    for i, (said, found) in enumerate(first):
        own = expected(url, FRAMES[i : i + 1], "seventy-seven")
        assert found == pytest.approx(shares(own), abs=1e-6)
        assert said["renorm_drift"] == pytest.approx(own["drift"], rel=1e-4)
        assert said["renorm_entropy"] == pytest.approx(own["entropy"], rel=1e-4)
    again, found = send(0, sequence_start=True)
    assert again["renorm_step"] == 1
    assert found == pytest.approx(first[0][1], abs=1e-6)
    assert send(1, sequence_end=True)[0]["renorm_step"] == 2
    assert send(2)[0]["renorm_step"] == 1


def test_parameters_choose_how_to_adapt(triton: Any, url: str) -> None:
    given = [tensor(http, FRAMES, "UINT8")]
    asked = {"renorm_strategy": "adabn", "renorm_momentum": 0.5, "renorm_update": False}
    said = triton.infer(MODEL, given, sequence_id="chosen", parameters=asked).get_response()["parameters"]
    assert (said["renorm_strategy"], said["renorm_updated"], said["renorm_step"]) == ("adabn", False, 0)
    named = {"renorm_strategy": "source", "renorm_stream": "chosen"}
    found = triton.infer(MODEL, given, parameters=named).as_numpy("probabilities")
    assert found == pytest.approx(shares(expected(url, FRAMES, "chosen-2", strategy="source")), abs=1e-6)


def test_a_repeated_request_takes_one_step(triton: Any) -> None:
    given = [tensor(http, FRAMES[:1], "UINT8")]
    said = [
        triton.infer(MODEL, given, sequence_id="again", request_id="same", headers=headers).get_response()
        for headers in ({"Idempotency-Key": "k"}, {"Idempotency-Key": "k"}, None, None)
    ]
    assert [one["parameters"]["renorm_step"] for one in said] == [1, 1, 2, 3]
    assert {one["id"] for one in said} == {"same"}


@pytest.mark.parametrize("binary", [True, False])
def test_classification(triton: Any, url: str, binary: bool) -> None:
    asked = [http.InferRequestedOutput("probabilities", binary_data=binary, class_count=3)]
    found = triton.infer(MODEL, [tensor(http, FRAMES, "UINT8")], outputs=asked, sequence_id=f"class-{binary}")
    ranked = found.as_numpy("probabilities")
    assert ranked.shape == (8, 3)
    own = expected(url, FRAMES, f"class-{binary}-2")
    for row, prediction in zip(ranked, own["predictions"], strict=True):
        for text, one in zip(row, prediction["top_k"][:3], strict=True):
            share, index, label = (text.decode() if isinstance(text, bytes) else text).split(":")
            assert (int(index), label) == (one["index"], one["label"])
            assert float(share) == pytest.approx(one["probability"], abs=2e-6)


@pytest.mark.parametrize("request_coding", ["gzip", "deflate"])
@pytest.mark.parametrize("answer_coding", ["gzip", "deflate", None])
def test_compression(triton: Any, request_coding: str, answer_coding: str | None) -> None:
    given = [tensor(http, FRAMES, "UINT8")]
    stream = f"packed-{request_coding}-{answer_coding}"
    packed = triton.infer(
        MODEL,
        given,
        sequence_id=f"{stream}-a",
        request_compression_algorithm=request_coding,
        response_compression_algorithm=answer_coding,
    )
    plain = triton.infer(MODEL, given, sequence_id=f"{stream}-b")
    assert packed.as_numpy("probabilities") == pytest.approx(plain.as_numpy("probabilities"), abs=1e-6)


def test_refusal_states_its_reason(triton: Any, url: str) -> None:
    nan = prepared(url, FRAMES)
    nan[2, 1, 5, 5] = np.nan
    raw = FRAMES.transpose(0, 3, 1, 2).astype(np.float32)
    expected(url, FRAMES, "refused")
    for kind, binary, says in (
        (nan, True, "NaN or infinity"),
        (raw, True, "look like raw pixels, 0 to 255: send them as UINT8"),
        (raw, False, "look like raw pixels, 0 to 255: send them as UINT8"),
        (nan, False, "NaN is not a valid JSON number"),
        (nan[:, :, :16], True, "not an input of this model"),
    ):
        with pytest.raises(InferenceServerException, match=says) as caught:
            triton.infer(MODEL, [tensor(http, kind, "FP32", binary=binary)], sequence_id="refused")
        assert caught.value.status() == "400"
    with pytest.raises(InferenceServerException, match="model 'other' is not hosted"):
        triton.infer("other", [tensor(http, FRAMES, "UINT8")])
    with pytest.raises(InferenceServerException, match="has renorm_stream"):
        triton.infer(MODEL, [tensor(http, FRAMES, "UINT8")], parameters={"renorm_colour": "red"})
    (state,) = httpx.get(f"http://{url}/v1/streams/refused").json()
    assert state["steps"] == 1


def test_unsupported_calls_are_refused(triton: Any) -> None:
    triton.load_model(MODEL)
    for call in (
        lambda: triton.unload_model(MODEL),
        lambda: triton.load_model(MODEL, config="{}"),
        triton.get_trace_settings,
        triton.get_log_settings,
        lambda: triton.update_log_settings({"log_info": True}),
        triton.get_system_shared_memory_status,
        triton.get_cuda_shared_memory_status,
        lambda: triton.register_system_shared_memory("r", "/r", 8),
        triton.unregister_cuda_shared_memory,
    ):
        with pytest.raises(InferenceServerException) as caught:
            call()
        assert caught.value.status() == "501"
        assert "client while decoding" not in caught.value.message()
    with pytest.raises(InferenceServerException, match="model 'other' is not hosted"):
        triton.load_model("other")


def test_statistics_count(triton: Any) -> None:
    def counts() -> Any:
        return triton.get_inference_statistics(MODEL)["model_stats"][0]

    before = counts()
    triton.infer(MODEL, [tensor(http, FRAMES, "UINT8")], sequence_id="counted")
    after = counts()
    assert after["inference_count"] - before["inference_count"] == 8
    assert after["execution_count"] - before["execution_count"] == 1
    grown = {
        name: after["inference_stats"][name]["count"] - old["count"] for name, old in before["inference_stats"].items()
    }
    assert [grown[name] for name in ("success", "fail", "queue", "compute_infer")] == [1, 0, 1, 1]
    assert any(batch["batch_size"] == 8 and batch["compute_infer"]["ns"] > 0 for batch in after["batch_stats"])
    assert after["last_inference"] >= 1000 * (time.time() - 60)
