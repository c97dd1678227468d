"""The Open Inference Protocol as others speak it: NVIDIA's client for asyncio, one made from its description, curl."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from open_inference.openapi.client import OpenInferenceClient
from open_inference.openapi.errors.not_found_error import NotFoundError
from open_inference.openapi.types.inference_request import InferenceRequest
from open_inference.openapi.types.request_input import RequestInput
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException

from tests.oip_frames import FRAMES, MODEL, expected, files, png, prepared, shares, tensor
from tests.served import ROOT, served


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served() as server:
        yield server.url.removeprefix("http://")


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
