"""Images for clients of the Open Inference Protocol, and what the server's own call answers of them."""

from __future__ import annotations

import io
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.served import ROOT

MODEL = "cifar10-resnet20"
FRAMES: NDArray[np.uint8] = np.load(ROOT / "benchmarks" / "sample" / "fog.npy")[:8]


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
    mean, std = (np.array(how[name], np.float32).reshape(3, 1, 1) for name in ("mean", "std"))
    # In the server's own precision: the answers are compared to six digits.
    return (frames.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255) - mean) / std


def tensor(module: Any, values: NDArray[Any], datatype: str, *, binary: bool = True) -> Any:
    given = module.InferInput("input", list(values.shape), datatype)
    given.set_data_from_numpy(values, binary_data=binary)
    return given


def files(frames: NDArray[np.uint8]) -> NDArray[np.object_]:
    return np.array([png(frame) for frame in frames], dtype=np.object_)
