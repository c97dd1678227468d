"""The only object that doors call: predict, reset, streams, describe, ping, close. Knows no HTTP."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import torch

from adapters import STRATEGIES, AdaptiveModel, AnyAdapter, Key, Outcome, Request, load_plugins, name_of, strategy
from app.batcher import Batcher, Result, Ticket
from app.errors import EngineClosedError, FieldError, StreamNotFoundError, TooLargeError, UnanswerableError
from app.images import Limits, decode
from app.models import load
from app.models.hosted import Hosted
from app.settings import Settings
from app.streams import Scope, Streams
from app.types import Call, ModelInfo, Prediction, SiteInfo, StreamInfo, StreamsInfo, Timing

log = logging.getLogger("renorm")


class Engine:
    """One hosted model, the states of its streams, and the thread that runs its forwards.

    Everything but forwards and decoding happens on the event loop's thread, so states need no lock. One forward is in
    flight at most; what arrives meanwhile waits and shares the next one.
    """

    def __init__(self, settings: Settings, hosted: Hosted) -> None:
        self.settings, self.hosted = settings, hosted
        self._model = AdaptiveModel(hosted.network, strategy(settings.strategy))
        self._streams = Streams(settings.max_state_bytes, settings.max_streams)
        self._batcher = Batcher(self._forward, self._streams.forget, settings.max_forward_images)
        self._limits = Limits(settings.max_image_bytes, settings.max_image_pixels)
        self._thread = ThreadPoolExecutor(1, "renorm-model")
        self._decoders = ThreadPoolExecutor(os.cpu_count() or 1, "renorm-decode")

    @classmethod
    async def open(cls, settings: Settings) -> Engine:
        """Load the model, run it once and be ready.

        Raises:
            ModelError, adapters.UnsupportedModelError: the model cannot be hosted.
            adapters.UnknownStrategyError: the default strategy does not exist.
        """
        load_plugins()
        engine = cls(settings, await asyncio.to_thread(load, settings))
        await asyncio.get_running_loop().run_in_executor(engine._thread, engine._warm_up)
        log.info("hosting %s: %d BatchNorm sites", engine.hosted.name, len(engine._model.sites))
        return engine

    async def predict(self, call: Call) -> Prediction:
        """Answer one request and let its stream learn from it.

        Raises:
            RequestError: something about the request is wrong; no state has moved.
            adapters.AdapterError: unknown strategy or hyperparameter; no state has moved.
            UnanswerableError: the network's output is not finite; no state has moved.
            EngineClosedError: the engine is closing.
        """
        adapter = self._adapter(call)
        self._check_count(len(call.images))
        ticket = self._batcher.enter(Key(call.stream, adapter), update=call.update)
        try:
            result = await self._batcher.run(ticket, await self._decode(call.images))
        finally:
            self._batcher.leave(ticket)
        return Prediction(
            probabilities=result.probabilities,
            strategy=name_of(adapter),
            params=asdict(adapter),  # type: ignore[call-overload]
            step=result.step,
            updated=result.updated,
            drift=result.drift,
            timing=_timing(ticket),
        )

    async def reset(self, stream: str | None = None, strategy: str | None = None) -> int:
        """Forget the states of a stream, of a strategy, of both or all; how many there were.

        Requests that arrived before take their step first, those that arrive later start anew.

        Raises:
            adapters.UnknownStrategyError: no strategy has that name.
        """
        if strategy is not None:
            _known(strategy)
        return await self._batcher.reset(Scope(stream, strategy))

    def streams(self) -> StreamsInfo:
        """What is remembered, without the numbers."""
        return self._streams.info()

    def stream(self, name: str) -> list[StreamInfo]:
        """One stream's states, one per strategy and hyperparameters.

        Raises:
            StreamNotFoundError: none is held.
        """
        held = [info for info in self._streams.info().streams if info.stream == name]
        if not held:
            raise StreamNotFoundError(
                f"no state is held for stream '{name}'", hint="a stream begins with its first answered request"
            )
        return held

    def describe(self) -> ModelInfo:
        """What is hosted."""
        return describe_hosted(self.hosted, self._model, self.settings)

    async def ping(self, deadline_s: float) -> bool:
        """Whether the model thread takes up work within the deadline."""
        try:
            answered = asyncio.get_running_loop().run_in_executor(self._thread, lambda: True)
            return await asyncio.wait_for(answered, deadline_s)
        except (TimeoutError, RuntimeError):
            return False

    async def close(self) -> None:
        """Finish the running forward, refuse what waits, end the threads."""
        await self._batcher.close()
        self._thread.shutdown()
        self._decoders.shutdown(cancel_futures=True)

    def _adapter(self, call: Call) -> AnyAdapter:
        return strategy(call.strategy or self.settings.strategy, call.params)

    def _check_count(self, images: int) -> None:
        if images == 0:
            raise FieldError("the request holds no image", hint="send at least one", where="images")
        if images > self.settings.max_images:
            raise TooLargeError(
                f"{images} images in one request, at most {self.settings.max_images} are accepted",
                hint="send them in several requests, or raise RENORM_MAX_IMAGES",
                where="images",
            )

    async def _decode(self, images: Sequence[bytes]) -> torch.Tensor:
        loop = asyncio.get_running_loop()
        work = [
            loop.run_in_executor(self._decoders, decode, data, self.hosted.preprocessing, self._limits, f"images[{i}]")
            for i, data in enumerate(images)
        ]
        # All are awaited, so that the first bad image is named whichever thread was quicker.
        done = await asyncio.gather(*work, return_exceptions=True)
        for result in done:
            if isinstance(result, BaseException):
                raise result
        decoded = [result for result in done if isinstance(result, torch.Tensor)]
        # A large request is many megabytes: copied together off the event loop too.
        return await loop.run_in_executor(self._decoders, torch.stack, decoded)

    def _warm_up(self) -> None:
        if self.settings.threads is not None:
            torch.set_num_threads(self.settings.threads)
        side = self.hosted.preprocessing.size
        # Two requests: a network that cannot answer a batch is refused now, not when the first one comes.
        image = torch.zeros(1, 3, side, side)
        self._model.run([Request(image, stream, update=False) for stream in ("one", "two")], {})

    async def _forward(self, group: list[Ticket]) -> list[Result | Exception]:
        """Run a group in one forward; if that fails, each request alone, so that one cannot fail the others."""
        try:
            return await self._forward_together(group)
        except Exception as error:
            if len(group) == 1:
                return [error]
            log.exception("a forward of %d requests failed: trying them one by one", len(group))
        return [result for ticket in group for result in await self._forward([ticket])]

    async def _forward_together(self, group: list[Ticket]) -> list[Result | Exception]:
        requests = [_request(ticket) for ticket in group]
        memories = self._streams.memories({ticket.key for ticket in group})
        loop = asyncio.get_running_loop()
        try:
            running = loop.run_in_executor(self._thread, self._model.run, requests, memories)
        except RuntimeError as error:
            raise EngineClosedError("the model thread is gone", hint="restart the server") from error
        return self._settle(group, await running)

    def _settle(self, group: list[Ticket], outcome: Outcome) -> list[Result | Exception]:
        for key, memory in outcome.memories.items():
            self._streams.commit(key, memory)
        results: list[Result | Exception] = []
        for ticket, answer in zip(group, outcome.answers, strict=True):
            probabilities = answer.logits.float().softmax(1)
            if not probabilities.isfinite().all():
                results.append(_unanswerable())
                continue
            if answer.updated:
                entropy = -torch.xlogy(probabilities, probabilities).sum(1).mean()
                self._streams.note(ticket.key, len(probabilities), answer.drift, float(entropy))
            results.append(Result(probabilities, answer.drift, answer.step, answer.updated))
        return results


def describe_hosted(hosted: Hosted, model: AdaptiveModel, settings: Settings) -> ModelInfo:
    """What a hosted model is, and what adapting it costs."""
    sites = [SiteInfo(site.name, model.sites.kind(i), site.channels) for i, site in enumerate(model.sites)]
    return ModelInfo(
        name=hosted.name,
        architecture=hosted.architecture,
        parameters=sum(parameter.numel() for parameter in hosted.network.parameters()),
        classes=hosted.classes,
        preprocessing=asdict(hosted.preprocessing),
        sites=sites,
        channels=sum(site.channels for site in sites),
        state_bytes={name: model.state_bytes(strategy(name)) for name in STRATEGIES},
        default_strategy=settings.strategy,
        card=hosted.card,
    )


def _known(name: str) -> None:
    strategy(name)


def _request(ticket: Ticket) -> Request:
    if ticket.images is None:
        raise ValueError("a ticket is dispatched only when its images are there")
    return Request(ticket.images, ticket.key.stream, ticket.key.adapter, ticket.update)


def _timing(ticket: Ticket) -> Timing:
    decode, queue = ticket.ready - ticket.arrived, ticket.started - ticket.ready
    forward, total = ticket.finished - ticket.started, ticket.finished - ticket.arrived
    return Timing(*(round(1000 * seconds, 3) for seconds in (decode, queue, forward, total)))


def _unanswerable() -> UnanswerableError:
    return UnanswerableError(
        "the network's output for these images is not finite, so nothing was learned from them",
        hint="check preprocessing and weights; if the stream's state is the cause, reset it",
    )
