"""The Open Inference Protocol as others' clients speak it: NVIDIA's, and one made from the protocol's description."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from open_inference.openapi.client import OpenInferenceClient
from open_inference.openapi.errors.not_found_error import NotFoundError
from open_inference.openapi.types.inference_request import InferenceRequest
from open_inference.openapi.types.request_input import RequestInput
from PIL import Image
from tritonclient import http
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException

ROOT = Path(__file__).parent.parent
MODEL = "cifar10-resnet20"
FRAMES: NDArray[np.uint8] = np.load(ROOT / "benchmarks" / "sample" / "fog.npy")[:8]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "renorm"), "serve", "--port", str(port), "--threads", "1"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        _wait(f"http://127.0.0.1:{port}", server)
        yield f"127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGTERM)
        output, _ = server.communicate(timeout=20)
    assert "Traceback" not in output, output


def _wait(address: str, server: subprocess.Popen[str]) -> None:
    for _ in range(300):
        assert server.poll() is None, server.communicate()[0]
        try:
            if httpx.get(f"{address}/v2/health/ready", timeout=10).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail("the server is not ready after 30 seconds")


@pytest.fixture(scope="module")
def triton(url: str) -> Iterator[Any]:
    with http.InferenceServerClient(url) as client:
        yield client


def png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def expected(url: str, frames: NDArray[np.uint8], stream: str, **fields: str) -> dict[str, Any]:
    """What the server's own call answers."""
    files = [("files", ("a.png", png(frame), "image/png")) for frame in frames]
    answer = httpx.post(f"http://{url}/v1/predict", files=files, data={"stream": stream, "top_k": "10", **fields})
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


def shares(answer: dict[str, Any]) -> NDArray[np.float64]:
    """Probabilities by class, of an answer of the server's own call."""
    table = np.zeros((len(answer["predictions"]), 10))
    for i, prediction in enumerate(answer["predictions"]):
        for one in prediction["top_k"]:
            table[i, one["index"]] = one["probability"]
    return table


def prepared(url: str, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    how = httpx.get(f"http://{url}/v1/model").json()["preprocessing"]
    pixels = frames.transpose(0, 3, 1, 2) / 255
    mean, std = (np.array(how[name]).reshape(3, 1, 1) for name in ("mean", "std"))
    values: NDArray[np.float32] = ((pixels - mean) / std).astype(np.float32)
    return values


def tensor(module: Any, values: NDArray[Any], datatype: str, *, binary: bool = True) -> Any:
    given = module.InferInput("input", list(values.shape), datatype)
    given.set_data_from_numpy(values, binary_data=binary)
    return given


def files(frames: NDArray[np.uint8]) -> NDArray[np.object_]:
    return np.array([png(frame) for frame in frames], dtype=np.object_)


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


def test_what_is_refused_says_why(triton: Any, url: str) -> None:
    nan = prepared(url, FRAMES)
    nan[2, 1, 5, 5] = np.nan
    expected(url, FRAMES, "refused")
    for kind, binary, says in (
        (nan, True, "not finite"),
        (nan, False, "NaN is no JSON number"),
        (nan[:, :, :16], True, "no input of this model"),
    ):
        with pytest.raises(InferenceServerException, match=says) as caught:
            triton.infer(MODEL, [tensor(http, kind, "FP32", binary=binary)], sequence_id="refused")
        assert caught.value.status() == "400"
    with pytest.raises(InferenceServerException, match="no model 'other'"):
        triton.infer("other", [tensor(http, FRAMES, "UINT8")])
    with pytest.raises(InferenceServerException, match="known are renorm_stream"):
        triton.infer(MODEL, [tensor(http, FRAMES, "UINT8")], parameters={"renorm_colour": "red"})
    (state,) = httpx.get(f"http://{url}/v1/streams/refused").json()
    assert state["steps"] == 1


def test_what_there_is_not_is_refused_cleanly(triton: Any) -> None:
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
    with pytest.raises(InferenceServerException, match="no model 'other'"):
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


def with_aio(url: str, use: Callable[[Any], Awaitable[None]]) -> None:
    async def run() -> None:
        async with aio.InferenceServerClient(url) as client:
            await use(client)
        await asyncio.sleep(0.1)  # aiohttp closes its sockets behind its back

    asyncio.run(run())


def test_the_client_for_asyncio(url: str) -> None:
    async def use(client: Any) -> None:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready(MODEL)
        assert (await client.get_server_metadata())["extensions"]
        # More than 500 bytes, which it cannot read when they are compressed.
        assert len(json.dumps(await client.get_model_metadata(MODEL))) > 500
        assert (await client.get_model_config(MODEL))["sequence_batching"]
        assert (await client.get_inference_statistics())["model_stats"]
        assert await client.get_model_repository_index()
        await client.load_model(MODEL)
        with pytest.raises(InferenceServerException, match="extension"):
            await client.get_trace_settings()
        own = shares(expected(url, FRAMES, "aio-own"))
        text = tensor(aio, prepared(url, FRAMES), "FP32", binary=False)
        asked = [aio.InferRequestedOutput("probabilities", binary_data=False)]
        for i, (given, outputs, coding) in enumerate(
            [
                (text, asked, None),
                (text, None, None),
                (tensor(aio, FRAMES, "UINT8"), None, None),
                (tensor(aio, files(FRAMES), "BYTES"), asked, "gzip"),
            ]
        ):
            result = await client.infer(
                MODEL, [given], outputs=outputs, sequence_id=f"aio-{i}", request_compression_algorithm=coding
            )
            assert result.as_numpy("probabilities") == pytest.approx(own, abs=1e-6)

    with_aio(url, use)


def test_the_client_made_from_the_protocols_description(url: str) -> None:
    with httpx.Client() as connection:
        client = OpenInferenceClient(base_url=f"http://{url}", httpx_client=connection)
        client.check_server_liveness()
        client.check_server_readiness()
        client.check_model_readiness(MODEL)
        client.check_model_version_readiness(MODEL, "1")
        with pytest.raises(NotFoundError):
            client.check_model_version_readiness(MODEL, "2")
        assert client.read_server_metadata().name == "renorm"
        metadata = client.read_model_metadata(MODEL)
        assert metadata == client.read_model_version_metadata(MODEL, "1")
        assert metadata.inputs is not None
        assert metadata.inputs[0].name == "input"
        own = shares(expected(url, FRAMES[:1], "oio-own"))
        kinds: dict[str, NDArray[Any]] = {
            "FP32": prepared(url, FRAMES[:1]),
            "UINT8": FRAMES[:1],
            "BYTES": np.array([base64.b64encode(png(FRAMES[0])).decode()]),
        }
        for kind, values in kinds.items():
            given = {"name": "x", "shape": list(values.shape), "datatype": kind, "data": values.tolist()}
            said: dict[str, Any] = {"inputs": [RequestInput.parse_obj(given)], "outputs": None, "id": "7"}
            for version in (False, True):
                request = InferenceRequest(**said, parameters={"sequence_id": f"oio-{kind}-{version}"})
                answer = (
                    client.model_version_infer(MODEL, "1", request=request)
                    if version
                    else client.model_infer(MODEL, request=request)
                )
                found: dict[str, Any] = {output.name: output.data.__root__ for output in answer.outputs}
                assert answer.id == "7"
                assert found["probabilities"] == pytest.approx(own[0], abs=1e-6)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / "protocol.md").read_text(), re.DOTALL)


def test_the_page_of_the_protocol_works_in_order(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    for command in blocks("sh"):
        here = command.replace("127.0.0.1:8000", url)
        done = subprocess.run(["bash", "-c", here], cwd=ROOT, capture_output=True, text=True, check=True)
        said.append(done.stdout.strip())
    assert json.loads(said[0]) == {"ready": True, "live": True}
    assert json.loads(said[1])["name"] == MODEL
    assert json.loads(said[2])["outputs"][1]["data"] == ["ship"]
    assert said[3] == '"renorm_step":2'
    monkeypatch.chdir(ROOT)
    (example,) = blocks("python")
    exec(example.replace("127.0.0.1:8000", url), {})  # noqa: S102
    assert capsys.readouterr().out == "[b'ship'] 3\n"
