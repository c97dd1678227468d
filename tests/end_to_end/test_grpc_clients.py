"""The gRPC service as others' clients speak to it: NVIDIA's, and the one made from the protocol's definitions."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from open_inference.grpc import protocol, service
from PIL import Image

from tests.served import ROOT, free_port
from tests.served import served as serving

MODEL = "cifar10-resnet20"
FRAMES: NDArray[np.uint8] = np.load(ROOT / "benchmarks" / "sample" / "fog.npy")[:4]


class Served(NamedTuple):
    url: str
    grpc: str  # address


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    port = free_port()
    with serving("--grpc-port", str(port), said=(f"gRPC           127.0.0.1:{port}",)) as server:
        yield Served(server.url, f"127.0.0.1:{port}")


def stub_of(channel: grpc.Channel) -> Any:
    return service.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def stub(served: Served) -> Iterator[Any]:
    with grpc.insecure_channel(served.grpc) as channel:
        yield stub_of(channel)


def png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def own(served: Served, stream: str, frames: NDArray[np.uint8] = FRAMES) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """What the server's own call answers: probabilities by class, and all of it."""
    files = [("files", ("a.png", png(frame), "image/png")) for frame in frames]
    answer = httpx.post(f"{served.url}/v1/predict", files=files, data={"stream": stream, "top_k": "10"}, timeout=30)
    assert answer.status_code == 200, answer.text
    table = np.zeros((len(frames), 10))
    for i, prediction in enumerate(answer.json()["predictions"]):
        for one in prediction["top_k"]:
            table[i, one["index"]] = one["probability"]
    return table, answer.json()


def prepared(served: Served) -> NDArray[np.float32]:
    how = httpx.get(f"{served.url}/v1/model").json()["preprocessing"]
    mean, std = (np.array(how[name], np.float32).reshape(3, 1, 1) for name in ("mean", "std"))
    # In the server's own precision: the answers are compared to six digits.
    return (FRAMES.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255) - mean) / std


@pytest.fixture(scope="module")
def triton(served: Served, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What NVIDIA's client was told."""
    files = [png(frame) for frame in FRAMES]
    padded = np.zeros((len(files), max(map(len, files))), np.uint8)
    for row, file in zip(padded, files, strict=True):
        row[: len(file)] = np.frombuffer(file, np.uint8)
    arrays = tmp_path_factory.mktemp("triton") / "arrays.npz"
    sizes = np.array([len(file) for file in files])
    np.savez(arrays, frames=FRAMES, prepared=prepared(served), files=padded, sizes=sizes)
    command = [
        sys.executable,
        "-W",
        "error",
        str(Path(__file__).with_name("triton_grpc.py")),
        served.grpc,
        str(arrays),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_tritons_client_learns_what_is_there(triton: dict[str, Any]) -> None:
    said = triton["sync"]
    assert said["ready"] == [True, True, True, True, False, False]
    assert triton["aio"]["ready"] == [True, True, True]
    assert said["server"]["name"] == "renorm"
    assert said["model"]["inputs"] == [{"name": "input", "datatype": "FP32", "shape": ["-1", "3", "32", "32"]}]
    assert [one["name"] for one in said["model"]["outputs"]] == ["probabilities", "label", "index"]


@pytest.mark.parametrize("way", ["sync", "aio"])
@pytest.mark.parametrize("kind", ["FP32", "UINT8", "BYTES"])
def test_tritons_client_is_answered_as_the_servers_own_call_is(
    served: Served, triton: dict[str, Any], way: str, kind: str
) -> None:
    table, answer = own(served, f"own-{way}-{kind}")
    said = triton[way]["kinds"][kind]
    assert np.array(said["probabilities"]) == pytest.approx(table, abs=1e-6)
    assert said["label"] == [one["label"] for one in answer["predictions"]]
    assert said["index"] == [one["index"] for one in answer["predictions"]]
    assert said["step"] == 1


def test_a_sequence_is_a_stream(served: Served, triton: dict[str, Any]) -> None:
    said = triton["sync"]["sequence"]
    assert [one["step"] for one in said] == [1, 2, 1, 1]
    assert {one["stream"] for one in said} == {"77"}
    for one, i in zip(said, (0, 1), strict=False):
        table, answer = own(served, "own-77", FRAMES[:1])
        assert np.array(one["probabilities"]) == pytest.approx(table, abs=1e-6)
        assert answer["step"] == i + 1


def test_compression_and_ranks(triton: dict[str, Any]) -> None:
    said = triton["sync"]
    plain = said["kinds"]["UINT8"]["probabilities"]
    assert np.array(said["gzip"]["probabilities"]) == pytest.approx(np.array(plain), abs=1e-6)
    (first, second) = (text.split(":") for text in said["ranked"])
    sent = said["sequence"][0]  # the same image, as the first of a stream
    assert [first[1], first[2]] == [str(sent["index"][0]), sent["label"][0]]
    assert float(first[0]) == pytest.approx(max(sent["probabilities"][0]), abs=1e-6)
    assert float(first[0]) >= float(second[0])


def test_refusals_say_why(triton: dict[str, Any]) -> None:
    expected = {
        "model": ("NOT_FOUND", "model 'other' is not hosted"),
        "shape": ("INVALID_ARGUMENT", "not an input of this model"),
        "parameter": ("INVALID_ARGUMENT", "has renorm_stream"),
        "index": ("UNIMPLEMENTED", "no method 'RepositoryIndex'"),
        "config": ("UNIMPLEMENTED", "no method 'ModelConfig'"),
        "memory": ("UNIMPLEMENTED", "no method 'SystemSharedMemoryStatus'"),
    }
    for name, (code, says) in expected.items():
        status, message = triton["sync"]["failures"][name]
        assert (status, says in message) == (f"StatusCode.{code}", True), message


def test_both_doors_lead_to_one_stream(served: Served, stub: Any) -> None:
    request = protocol.ModelInferRequest(
        model_name=MODEL, parameters={"sequence_id": protocol.InferParameter(string_param="both")}
    )
    one = request.inputs.add(name="files", datatype="BYTES", shape=[1])
    one.contents.bytes_contents.append(png(FRAMES[0]))
    steps = []
    for _ in range(2):
        answer = stub.ModelInfer(request)
        steps += [answer.parameters["renorm_step"].int64_param, own(served, "both", FRAMES[:1])[1]["step"]]
    assert steps == [1, 2, 3, 4]
    assert len(answer.outputs[0].contents.fp32_contents) == 10


def test_many_at_once_take_one_step_each(served: Served, stub: Any) -> None:
    def infer(i: int) -> tuple[str, int]:
        stream = protocol.InferParameter(string_param=f"many-{i % 3}")
        request = protocol.ModelInferRequest(
            model_name=MODEL,
            parameters={"sequence_id": stream},
            inputs=[{"name": "image", "datatype": "UINT8", "shape": [1, 32, 32, 3]}],
            raw_input_contents=[FRAMES[:1].tobytes()],
        )
        answer = stub.ModelInfer(request, timeout=30)
        return answer.parameters["renorm_stream"].string_param, answer.parameters["renorm_step"].int64_param

    with ThreadPoolExecutor(12) as pool:
        found = sorted(pool.map(infer, range(36)))
    assert found == sorted((f"many-{i}", step) for i in range(3) for step in range(1, 13))


def test_the_page_shows_what_works(served: Served) -> None:
    page = (ROOT / "docs" / "grpc.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert "127.0.0.1:8001" in example
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(example.replace("127.0.0.1:8001", served.grpc), {})  # noqa: S102
    assert re.fullmatch(r"\d 1\n", printed.getvalue())
    for method in protocol.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
        assert f"| `{method.name}` |" in page
