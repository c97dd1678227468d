"""The parts that all clients share: the server that they call, the answers it should give, and the report.

Runs in the environments of the clients, each of which is a program that takes the server's URL and writes one line of
JSON for each call that it tried.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from io import BytesIO
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.load.payloads import PLAIN

PICTURES = PLAIN.of(0)[:2]
"""Two images, as PNG files."""

TOLERANCE = 1e-5  # the server's own interface writes six digits


class Call(NamedTuple):
    """One call of a client: its name, whether it did what it should, and what came, or why not."""

    name: str
    passed: bool
    what: str


class DiffersError(Exception):
    """The client got something else than it should; the message says what."""


class Server:
    """A running Renorm, asked over its own interface.

    Raises:
        httpx.HTTPError: it does not answer.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        described = self.request("GET", "/v1/model").raise_for_status().json()
        self.model: str = described["name"]
        self.classes: list[str] = described["classes"]
        self.mean, self.std = (np.array(described["preprocessing"][name], np.float32) for name in ("mean", "std"))

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Call it, without any proxy."""
        with httpx.Client(base_url=self.url, trust_env=False, timeout=30.0) as client:
            return client.request(method, path, **options)

    def predicted(self, files: Sequence[bytes], stream: str) -> NDArray[np.float32]:
        """Probabilities [n, classes] that ``POST /v1/predict`` answers to one request."""
        form = {"stream": stream, "top_k": str(len(self.classes))}
        answer = self.request("POST", "/v1/predict", files=[("files", file) for file in files], data=form)
        images = answer.raise_for_status().json()["predictions"]
        ranked = [{one["index"]: one["probability"] for one in image["top_k"]} for image in images]
        return np.array([[image[index] for index in range(len(self.classes))] for image in ranked], np.float32)

    def input(self, files: Sequence[bytes]) -> NDArray[np.float32]:
        """What the network itself takes: float32 [n, 3, size, size]."""
        normal = (pixels(files).astype(np.float32) / 255 - self.mean) / self.std
        return np.ascontiguousarray(normal.transpose(0, 3, 1, 2), dtype=np.float32)

    def request_body(self, files: Sequence[bytes]) -> dict[str, Any]:
        """A request of the Open Inference Protocol, in JSON alone."""
        data = self.input(files)
        tensor = {"name": "input", "datatype": "FP32", "shape": list(data.shape), "data": data.ravel().tolist()}
        return {"inputs": [tensor]}

    def checked(self, method: str, path: str, kind: Any, status: int = 200, **options: Any) -> str:
        """Read the answer of a call with a pydantic model of another project; its status.

        Raises:
            DiffersError: it has another status.
            pydantic.ValidationError: it is not what the model describes.
        """
        answer = self.request(method, path, **options)
        same(answer.status_code, status)
        kind.model_validate_json(answer.content)
        return f"{status}, as described"


def pixels(files: Sequence[bytes]) -> NDArray[np.uint8]:
    """RGB pixels [n, height, width, 3]."""
    return np.stack([np.asarray(Image.open(BytesIO(file)).convert("RGB")) for file in files])


def fresh() -> str:
    """The name of a stream that the server has never met."""
    return f"clients-{uuid4().hex}"


def equal(found: Any, expected: NDArray[np.float32]) -> str:
    """How far two answers are apart, at most.

    Raises:
        DiffersError: in shape, or by more than rounding explains.
    """
    array = np.asarray(found, dtype=np.float32)
    if array.shape != expected.shape:
        raise DiffersError(f"the answer has shape {list(array.shape)}, that of POST /v1/predict {list(expected.shape)}")
    apart = float(np.abs(array - expected).max())
    # Asked this way round, because nothing is below NaN.
    if not apart <= TOLERANCE:
        raise DiffersError(f"off by {apart:.2g} from POST /v1/predict")
    return "as POST /v1/predict"


def same(found: object, expected: object) -> str:
    """What was found, in words.

    Raises:
        DiffersError: it is not what was expected.
    """
    if found != expected:
        raise DiffersError(f"{found!r} instead of {expected!r}")
    return repr(found)


def told(found: str, expected: str) -> str:
    """What the user of a client is told, which holds the server's words.

    Raises:
        DiffersError: they are not in what the client says.
    """
    if expected not in found:
        raise DiffersError(f"the client says {found!r}; the server had said {expected!r}")
    return f"says: {found}"


def report(calls: Mapping[str, Callable[[], str]]) -> None:
    """Try each call, and write at once what came of it: one line of JSON."""
    for name, call in calls.items():
        try:
            # What a client prints is no report.
            with redirect_stdout(sys.stderr):
                done = Call(name, True, call())
        except Exception as error:
            # Whatever a client raises is what its user would see.
            done = Call(name, False, f"{type(error).__name__}: {error}")
        sys.stdout.write(json.dumps(done._asdict()) + "\n")
        sys.stdout.flush()
