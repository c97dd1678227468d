"""A client of the Renorm server: images as lossless PNG files, one request after the other, errors with reasons."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

TIMEOUT_S = 120.0


class ServerError(Exception):
    """The server cannot be reached, or it refused a request; the message says why, in the server's words."""


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """One image ``[h, w, 3]`` as PNG: the server sees exactly these pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


class StreamClient:
    """One connection to a server. ``key`` is its admin key, where it has one."""

    def __init__(self, url: str, key: str | None = None, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        # Without the environment's proxies: they cannot reach a server on this machine, and would be measured too.
        self._http = httpx.Client(
            base_url=self.url, headers=headers, timeout=TIMEOUT_S, transport=transport, trust_env=False
        )

    def __enter__(self) -> StreamClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def ready(self) -> str:
        """The name of the hosted model.

        Raises:
            ServerError: nothing listens there, or it is not ready.
        """
        return str(self._call("GET", "/readyz")["model"])

    def reset(self, stream: str) -> None:
        """Make the server forget a stream, with every strategy.

        Raises:
            ServerError: it refused, for example because it needs a key.
        """
        self._call("POST", "/v1/admin/reset", json={"stream": stream})

    def predict(self, images: Sequence[bytes], stream: str, strategy: str, params: dict[str, Any]) -> list[int]:
        """The class of each image; the stream adapts to them.

        Raises:
            ServerError: the server refused the request.
        """
        files = [("files", (f"{i}.png", image, "image/png")) for i, image in enumerate(images)]
        fields = {"stream": stream, "strategy": strategy, "params": json.dumps(params), "top_k": "1"}
        answer = self._call("POST", "/v1/predict", files=files, data=fields)
        return [int(one["index"]) for one in answer["predictions"]]

    def _call(self, method: str, path: str, **what: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **what)
        except httpx.HTTPError as error:
            raise ServerError(f"no answer from {self.url}: {error}; is it running? renorm serve starts one") from error
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ServerError(
                f"{self.url}{path} answered {response.status_code} without JSON: is this a Renorm server?"
            )
        if response.is_error:
            raise ServerError(f"{method} {path} was refused ({response.status_code}): {answer.get('error', answer)}")
        return answer
