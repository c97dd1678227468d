"""A client of one server, and its handle of one stream: `asynchronous.py`, and `synchronous.py` generated from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from app.client import calls
from app.client.exchange import Attempt, Reply, Steps, client_options, exchange, is_ready, server_address, until_ready
from app.client.folders import bar, batches, image_files
from app.client.images import to_parts_async
from app.client.results import Answer, ImagePrediction
from app.schemas import CompositeResponse, ModelResponse, StrategyResponse, StreamsResponse, StreamState

if TYPE_CHECKING:
    from app.client.images import Images

T = TypeVar("T")


class AsyncClient:
    """A connection to one server. Use it as a context manager, or close it.

    Threads may share a `Client`, tasks of one event loop an `AsyncClient`. ``url`` is the server's address and ``key``
    its key, sent as ``Authorization: Bearer``. ``timeout`` is the seconds that one try may wait for the server. A try
    that cannot connect, loses its connection or gets a status 429, 502, 503 or 504 is repeated, ``retries`` times at
    most; several tries of a prediction take one step at most. ``transport`` replaces the network, for tests.

    Every method raises `RenormClientError`; its kinds are `InvalidInput`, `ServerUnreachable`, `Refused` and
    `UnexpectedAnswer`.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout: float | None = 30.0,
        retries: int = 3,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(**client_options(url, key, timeout), transport=transport)
        self._server, self._retries = server_address(url), retries

    async def predict(
        self,
        images: Images,
        *,
        stream: str = "default",
        strategy: str | None = None,
        params: Mapping[str, Any] | None = None,
        update: bool = True,
        top_k: int | None = None,
        explain: bool = False,
    ) -> Answer:
        """Predict one or many images of a stream, which learns from them unless ``update`` is false: one step.

        ``images`` is a path, the bytes of a file, a PIL image, a uint8 array ``[H, W, 3]`` or ``[n, H, W, 3]`` of RGB
        pixels, or a list of these. ``strategy`` None is the server's default; ``params`` are hyperparameters of the
        strategy; ``top_k`` None ranks five classes, or all where the model has fewer. ``explain`` asks for
        ``explanation`` in the answer: what the stream's next answer leans on and why.

        Raises:
            OSError: a path cannot be read.
        """
        options = calls.PredictOptions(stream, strategy, params, update, top_k, explain)
        return await self._execute(calls.predict(await to_parts_async(images), options))

    def stream(
        self,
        name: str,
        *,
        strategy: str | None = None,
        params: Mapping[str, Any] | None = None,
        top_k: int | None = None,
        release: bool = False,
    ) -> AsyncStream:
        """Return a handle of one stream, with the options that its predictions share."""
        return AsyncStream(self, name, strategy=strategy, params=params, top_k=top_k, release=release)

    def predict_folder(
        self,
        folder: str | Path,
        *,
        stream: str = "default",
        strategy: str | None = None,
        params: Mapping[str, Any] | None = None,
        update: bool = True,
        top_k: int | None = None,
        batch: int = 8,
        progress: bool = True,
        pattern: str | None = None,
    ) -> AsyncIterator[tuple[Path, ImagePrediction]]:
        """Predict the images of a folder in natural order, ``batch`` of them in each request, which is one step.

        Each image comes with its path as soon as its request is answered. ``pattern`` is a glob such as ``**/*.png``;
        ``progress`` draws a bar on standard error, where that is a terminal.
        """
        groups = batches(image_files(folder, pattern), batch)

        async def predictions() -> AsyncIterator[tuple[Path, ImagePrediction]]:
            with bar(sum(map(len, groups)), visible=progress) as advance:
                for paths in groups:
                    answer = await self.predict(
                        paths, stream=stream, strategy=strategy, params=params, update=update, top_k=top_k
                    )
                    advance(len(paths))
                    for pair in zip(paths, answer.predictions, strict=True):
                        yield pair

        return predictions()

    async def reset(self, stream: str | None = None, strategy: str | None = None) -> int:
        """Reset a stream, a strategy, both, or everything; return the number of states. Needs the admin key."""
        return await self._execute(calls.reset(stream, strategy))

    async def model(self) -> ModelResponse:
        """Describe the hosted model and its preprocessing."""
        return await self._execute(calls.model())

    async def strategies(self) -> list[StrategyResponse]:
        """List the strategies that a prediction may name, with their hyperparameters."""
        return await self._execute(calls.strategies())

    async def strategy(self, name: str) -> CompositeResponse:
        """Describe a strategy or combination, such as ``unmix_tns+lame``: its parts, and the schema of its ``params``.

        Raises:
            Refused: there is no such strategy, or its parts cannot be combined.
        """
        return await self._execute(calls.strategy(name))

    async def streams(self) -> StreamsResponse:
        """List the states of all streams, and how full the memory is."""
        return await self._execute(calls.streams())

    async def ready(self) -> bool:
        """Ask once whether the model answers; False where no server does."""
        return await self._run(is_ready())

    async def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Wait until the model answers.

        Raises:
            ServerUnreachable: it did not within ``timeout`` seconds.
        """
        await self._run(until_ready(self._server, timeout))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _execute(self, call: calls.ApiCall[T]) -> T:
        return await self._run(exchange(call, self._server, self._retries))

    async def _run(self, steps: Steps[T]) -> T:
        try:
            attempt = next(steps)
            while True:
                attempt = steps.send(await self._send(attempt))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _send(self, attempt: Attempt) -> Reply:
        await asyncio.sleep(attempt.delay)
        try:
            return await self._http.request(**attempt.call.arguments())
        except httpx.RequestError as error:
            return error


class AsyncStream:
    """One stream of a client. Leaving its context resets nothing, unless ``release`` is true.

    ``release`` resets the stream at the end of the block, which needs the admin key.
    """

    def __init__(
        self,
        client: AsyncClient,
        name: str,
        *,
        strategy: str | None = None,
        params: Mapping[str, Any] | None = None,
        top_k: int | None = None,
        release: bool = False,
    ) -> None:
        self.name, self.strategy, self.release = name, strategy, release
        self._client, self._params, self._top_k = client, params, top_k

    async def predict(self, images: Images, *, update: bool = True, explain: bool = False) -> Answer:
        """Predict one or many images; see `Client.predict`."""
        return await self._client.predict(
            images,
            stream=self.name,
            strategy=self.strategy,
            params=self._params,
            update=update,
            top_k=self._top_k,
            explain=explain,
        )

    async def reset(self) -> int:
        """Reset the stream's states of this handle's strategy, or of all where it names none; return their number."""
        return await self._client.reset(self.name, self.strategy)

    async def info(self) -> list[StreamState]:
        """List the states: one for each strategy and each set of hyperparameters; empty where there is none."""
        return await self._client._execute(calls.states(self.name))

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.release:
            await self.reset()
