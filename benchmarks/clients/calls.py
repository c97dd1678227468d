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


class ClientCall(NamedTuple):
    """One call of a client: its name, whether it did what it should, and what came, or why not."""

    name: str
    passed: bool
    detail: str


class DiffersError(Exception):
    """The client got something else than it should; the message says what."""


class RenormServer:
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
        ranked = [{entry["index"]: entry["probability"] for entry in image["top_k"]} for image in images]
        return np.array([[image[index] for index in range(len(self.classes))] for image in ranked], np.float32)

    def input(self, files: Sequence[bytes]) -> NDArray[np.float32]:
        """Return the input of the network itself: float32 [n, 3, size, size]."""
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
        check_equal(answer.status_code, status)
        kind.model_validate_json(answer.content)
        return f"{status}, as described"


def pixels(files: Sequence[bytes]) -> NDArray[np.uint8]:
    """RGB pixels [n, height, width, 3]."""
    return np.stack([np.asarray(Image.open(BytesIO(file)).convert("RGB")) for file in files])


def new_stream() -> str:
    """The name of a stream that the server has never met."""
    return f"clients-{uuid4().hex}"


def check_close(answer: Any, expected: NDArray[np.float32]) -> str:
    """Check that an answer is that of the server's own interface, but for rounding.

    Raises:
        DiffersError: in shape, or by more than rounding explains.
    """
    array = np.asarray(answer, dtype=np.float32)
    if array.shape != expected.shape:
        raise DiffersError(f"the answer has shape {list(array.shape)}, that of POST /v1/predict {list(expected.shape)}")
    difference = float(np.abs(array - expected).max())
    # Asked this way round, because nothing is below NaN.
    if not difference <= TOLERANCE:
        raise DiffersError(f"off by {difference:.2g} from POST /v1/predict")
    return "as POST /v1/predict"


def check_equal(value: object, expected: object) -> str:
    """Check that a value is the expected one, and return it in words.

    Raises:
        DiffersError: it is not what was expected.
    """
    if value != expected:
        raise DiffersError(f"{value!r} instead of {expected!r}")
    return repr(value)


def check_message(message: str, expected: str) -> str:
    """Check that the message of a client holds the server's words, and return it.

    Raises:
        DiffersError: they are not in what the client says.
    """
    if expected not in message:
        raise DiffersError(f"the client says {message!r}; the server had said {expected!r}")
    return f"says: {message}"


def report(calls: Mapping[str, Callable[[], str]]) -> None:
    """Try each call, and write at once what came of it: one line of JSON."""
    for name, call in calls.items():
        try:
            # What a client prints is no report.
            with redirect_stdout(sys.stderr):
                done = ClientCall(name, True, call())
        except Exception as error:
            # Whatever a client raises is what its user would see.
            done = ClientCall(name, False, f"{type(error).__name__}: {error}")
        sys.stdout.write(json.dumps(done._asdict()) + "\n")
        sys.stdout.flush()
