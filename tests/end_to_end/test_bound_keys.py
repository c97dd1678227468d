"""Two tenants of one real server: neither moves the other's stream, whichever door it tries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from open_inference.grpc import protocol
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.app.rpc.doors import parameter
from tests.app.tenants import OWN, written_keys
from tests.end_to_end.test_command import images, png
from tests.served import free_port, served

MODEL = "cifar10-resnet20"
PIXELS = images("fog")[:4]


def request(**parameters: str | bool) -> bytes:
    said = {name: parameter(value) for name, value in parameters.items()}
    message = protocol.ModelInferRequest(model_name=MODEL, parameters=said)
    message.inputs.add(name="input", datatype="UINT8", shape=PIXELS.shape)
    message.raw_input_contents.append(np.ascontiguousarray(PIXELS).tobytes())
    return bytes(message.SerializeToString())


def test_attempts_of_a_tenant_move_no_stream_of_another(tmp_path: Path) -> None:
    keys, port = written_keys(tmp_path / "keys.toml"), free_port()
    with served("--keys", str(tmp_path / "keys.toml"), "--grpc-port", str(port)) as server:
        mine, theirs, neither = ({"x-api-key": keys[name]} for name in ("b", "a", "all"))
        frame = png(PIXELS[0])

        def state() -> Any:
            (found,) = httpx.get(f"{server.url}/v1/streams/{OWN}", headers=mine).json()
            return {name: value for name, value in found.items() if name != "age_s"}

        def post(path: str, **said: Any) -> int:
            return httpx.post(server.url + path, timeout=60, **said).status_code

        assert post(f"/v1/predict?stream={OWN}", content=frame, headers=mine) == 200
        before = state()
        assert before["steps"] == 1
        ending = {
            "inputs": [{"name": "input", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": [0] * 12}],
            "parameters": {"sequence_id": OWN, "sequence_end": True},
        }
        for headers in (theirs, neither):
            assert post(f"/v2/models/{MODEL}/infer", json=ending, headers=headers) == 403
        for path in ("/v1/predict", "/v1/predict/stream"):
            assert post(f"{path}?stream={OWN}", content=frame, headers=theirs) == 403
        live = f"{server.url.replace('http', 'ws')}/v1/streams/{OWN}/live"
        with pytest.raises(InvalidStatus) as refused, connect(live, additional_headers=theirs):
            pass
        assert refused.value.response.status_code == 403
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            for key, flags in (("a", {}), ("a", {"sequence_end": True}), ("all", {"sequence_start": True})):
                with pytest.raises(grpc.RpcError) as no:
                    infer(request(sequence_id=OWN, **flags), metadata=(("x-api-key", keys[key]),))
                assert no.value.code() is grpc.StatusCode.PERMISSION_DENIED
            assert state() == before
            infer(request(sequence_id=OWN), metadata=(("x-api-key", keys["b"]),))
        with connect(live, additional_headers=mine) as camera:
            camera.send(frame)
            camera.recv(60)
        assert state()["steps"] == 3
