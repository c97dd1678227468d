"""Two sources of the same predictions: an engine in this process, and a server over HTTP."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, Protocol, TypeAlias
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.client import AsyncClient, Refused
from app.client.exchange import server_address
from app.engine import Engine
from app.errors import StreamNotFoundError
from app.models.device import device_of
from app.models.labels import ClassNames
from app.types import Call

Images: TypeAlias = Tensor | Sequence[bytes]
"""Of one request: uint8 ``[n, H, W, 3]`` RGB pixels, or files."""

TIMEOUT_S = 600.0
"""Timeout of one attempt in seconds: the server may have many requests of this evaluation in its queue."""

_FORBIDDEN = frozenset({401, 403})


class Predictions(NamedTuple):
    """The predictions of a request. ``drift`` is not finite where the engine's is not."""

    predicted: NDArray[np.int64]  # [n]
    confidence: NDArray[np.float32]  # [n] probability of the predicted class
    entropy: float  # mean over the images, in nats
    drift: float
    step: int  # requests that the stream has learned from, this one included


class Driver(Protocol):
    """The interface to an engine or a server, whose errors it raises. ``place`` is for people."""

    place: str

    async def predict(
        self, images: Images, stream: str, strategy: str, params: Mapping[str, Any], *, start: bool, update: bool = True
    ) -> Predictions:
        """Answer one request, one step of the stream; ``start`` resets the stream first."""
        ...

    async def state_bytes(self, stream: str) -> int:
        """Return the size of the state of a stream in bytes; 0 where there is none."""
        ...

    async def reset(self, stream: str) -> None:
        """Delete the state of a stream."""
        ...

    async def identity(self) -> dict[str, str]:
        """Return what identifies the hosted model: two models with equal values answer alike."""
        ...

    async def classes(self) -> ClassNames:
        """The names of the model's classes, in the order of their numbers."""
        ...

    async def close(self) -> None:
        """Release all resources."""
        ...


class EngineDriver:
    """A driver of an engine in this process. Closing the driver closes the engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.place = f"this process, on {device_of(engine.settings.device)}"

    async def predict(
        self, images: Images, stream: str, strategy: str, params: Mapping[str, Any], *, start: bool, update: bool = True
    ) -> Predictions:
        """See `Driver`."""
        sent = images if isinstance(images, Tensor) else list(images)
        answer = await self.engine.predict(Call(sent, stream, strategy, params, update, top_k=1, start=start))
        return Predictions(
            np.array([row[0] for row in answer.classes], np.int64),
            np.array([row[0] for row in answer.shares], np.float32),
            answer.entropy,
            answer.drift,
            answer.step,
        )

    async def state_bytes(self, stream: str) -> int:
        """See `Driver`."""
        try:
            return sum(state.bytes for state in await self.engine.stream(stream))
        except StreamNotFoundError:
            return 0

    async def reset(self, stream: str) -> None:
        """See `Driver`."""
        await self.engine.reset(stream)

    async def identity(self) -> dict[str, str]:
        """See `Driver`."""
        hosted, dtype = self.engine.hosted, self.engine.settings.dtype
        description = {"model": hosted.source, "architecture": hosted.architecture, "type": dtype}
        prepared = _format_mapping(asdict(hosted.preprocessing))
        return {**description, "preprocessing": prepared, "weights": weights_digest(hosted.network)}

    async def classes(self) -> ClassNames:
        """See `Driver`."""
        return ClassNames(tuple(self.engine.hosted.classes), self.engine.hosted.class_ids)

    async def close(self) -> None:
        """See `Driver`."""
        await self.engine.close()


class ServerDriver:
    """A driver of a running server. Pixels travel as lossless PNG files.

    A key that may predict is enough: a new stream gets a name that the server has not seen. The names of two
    evaluations differ, so several can use one server. Old streams are reset where the key permits it; otherwise the
    server evicts them when it needs the memory.
    """

    def __init__(self, client: AsyncClient, place: str = "a server") -> None:
        self._client, self.place = client, place
        self._prefix, self._begun = f"evaluation-{uuid4().hex[:12]}", 0
        self._names: dict[str, str] = {}
        self._may_reset = True

    async def predict(
        self, images: Images, stream: str, strategy: str, params: Mapping[str, Any], *, start: bool, update: bool = True
    ) -> Predictions:
        """See `Driver`."""
        if start:
            await self.reset(stream)
        sent = images.numpy() if isinstance(images, Tensor) else list(images)
        answer = await self._client.predict(
            sent, stream=self._name(stream), strategy=strategy, params=params, update=update, top_k=1
        )
        return Predictions(
            np.array([prediction.index for prediction in answer.predictions], np.int64),
            np.array([prediction.probability for prediction in answer.predictions], np.float32),
            answer.entropy,
            math.nan if answer.drift is None else answer.drift,
            answer.step,
        )

    async def state_bytes(self, stream: str) -> int:
        """See `Driver`."""
        return sum(state.bytes for state in await self._client.stream(self._name(stream)).info())

    async def reset(self, stream: str) -> None:
        """See `Driver`."""
        old = self._names.pop(stream, None)
        if old is None or not self._may_reset:
            return
        try:
            await self._client.reset(old)
        except Refused as error:
            if error.status not in _FORBIDDEN:
                raise
            self._may_reset = False

    async def identity(self) -> dict[str, str]:
        """See `Driver`. A server does not report its weights, so two of one architecture count as the same."""
        info = await self._client.model()
        description = {"model": info.name, "architecture": info.architecture, "type": info.dtype}
        return {**description, "preprocessing": _format_mapping(info.preprocessing), "weights": "those of the server"}

    async def classes(self) -> ClassNames:
        """See `Driver`."""
        info = await self._client.model()
        return ClassNames(tuple(info.classes), tuple(info.class_ids))

    async def close(self) -> None:
        """See `Driver`."""
        await self._client.aclose()

    def _name(self, stream: str) -> str:
        if stream not in self._names:
            self._begun += 1
            self._names[stream] = f"{self._prefix}-{self._begun}"
        return self._names[stream]


def server_driver(url: str, key: str | None = None) -> ServerDriver:
    """Return a driver for the server at that address.

    Raises:
        InvalidInput: the address is not valid, or the key cannot be sent.
    """
    return ServerDriver(AsyncClient(url, key=key, timeout=TIMEOUT_S), f"the server at {server_address(url)}")


def weights_digest(network: nn.Module) -> str:
    """Return a short hash of the names, shapes and values of the state dict."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        # As bytes, because numpy has no bfloat16.
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _format_mapping(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_format_value(value)}" for name, value in values.items())


def _format_value(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
