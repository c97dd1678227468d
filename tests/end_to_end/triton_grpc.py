"""NVIDIA's gRPC client in a process of its own: its messages have the names of those that the server's process loads.

Run with an address and a file of arrays (`frames`, `prepared`, `files`); prints what it was told as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import numpy as np
from tritonclient import grpc
from tritonclient.grpc import aio
from tritonclient.utils import InferenceServerException

MODEL = "cifar10-resnet20"


def tensor(values: Any, datatype: str) -> Any:
    given = grpc.InferInput("input", list(values.shape), datatype)
    given.set_data_from_numpy(values)
    return given


def told(result: Any) -> dict[str, Any]:
    parameters = result.get_response().parameters
    return {
        "probabilities": result.as_numpy("probabilities").tolist(),
        "label": [text.decode() for text in result.as_numpy("label")],
        "index": result.as_numpy("index").tolist(),
        "step": parameters["renorm_step"].int64_param,
        "stream": parameters["renorm_stream"].string_param,
    }


def failure(call: Any) -> list[str]:
    try:
        call()
    except InferenceServerException as error:
        return [str(error.status()), error.message()]
    raise AssertionError("it was answered")


def kinds(arrays: Any) -> dict[str, Any]:
    frames, prepared, files = arrays["frames"], arrays["prepared"], arrays["files"]
    sizes = arrays["sizes"]
    texts = np.array([bytes(file[:size]) for file, size in zip(files, sizes, strict=True)], dtype=np.object_)
    return {"FP32": tensor(prepared, "FP32"), "UINT8": tensor(frames, "UINT8"), "BYTES": tensor(texts, "BYTES")}


def synchronous(address: str, arrays: Any) -> dict[str, Any]:
    given = kinds(arrays)
    with grpc.InferenceServerClient(address) as client:
        ready = [client.is_server_live(), client.is_server_ready(), client.is_model_ready(MODEL)]
        ready += [client.is_model_ready(MODEL, "1"), client.is_model_ready(MODEL, "2"), client.is_model_ready("other")]
        first = tensor(arrays["frames"][:1], "UINT8")
        sequence = [client.infer(MODEL, [first], sequence_id=77) for _ in range(2)]
        sequence += [client.infer(MODEL, [first], sequence_id=77, sequence_start=True, sequence_end=True)]
        sequence += [client.infer(MODEL, [first], sequence_id=77)]
        asked = [grpc.InferRequestedOutput("probabilities", class_count=2)]
        ranked = client.infer(MODEL, [first], outputs=asked, sequence_id="ranked").as_numpy("probabilities")
        packed = client.infer(MODEL, [given["UINT8"]], sequence_id="t-gzip", compression_algorithm="gzip")
        return {
            "ready": ready,
            "server": client.get_server_metadata(as_json=True),
            "model": client.get_model_metadata(MODEL, as_json=True),
            "kinds": {name: told(client.infer(MODEL, [one], sequence_id=f"t-{name}")) for name, one in given.items()},
            "gzip": told(packed),
            "sequence": [told(one) for one in sequence],
            "ranked": [text.decode() for text in ranked[0]],
            "failures": {
                "model": failure(lambda: client.infer("other", [first])),
                "shape": failure(lambda: client.infer(MODEL, [tensor(arrays["prepared"][:, :, :16], "FP32")])),
                "parameter": failure(lambda: client.infer(MODEL, [first], parameters={"renorm_colour": "red"})),
                "index": failure(client.get_model_repository_index),
                "config": failure(lambda: client.get_model_config(MODEL)),
                "memory": failure(client.get_system_shared_memory_status),
            },
        }


async def asynchronous(address: str, arrays: Any) -> dict[str, Any]:
    async with aio.InferenceServerClient(address) as client:
        ready = [await client.is_server_live(), await client.is_server_ready(), await client.is_model_ready(MODEL)]
        answers = {
            name: told(await client.infer(MODEL, [one], sequence_id=f"a-{name}")) for name, one in kinds(arrays).items()
        }
        return {"ready": ready, "kinds": answers}


if __name__ == "__main__":
    with np.load(sys.argv[2]) as loaded:
        arrays = dict(loaded)
    said = {"sync": synchronous(sys.argv[1], arrays), "aio": asyncio.run(asynchronous(sys.argv[1], arrays))}
    print(json.dumps(said))
