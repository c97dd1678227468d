"""The only object that doors call: predict, reset, streams, describe, ping, close. Knows no HTTP."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import torch

from adapters import AdaptiveModel, Key, Memory, Outcome, Request, load_plugins
from app.batcher import Batcher, Result, Ticket
from app.budget import Budget
from app.decoding import Decoders
from app.describing import describe_hosted
from app.errors import EngineClosedError, FieldError, StreamNotFoundError, TooLargeError, UnanswerableError
from app.images import Limits
from app.models import load
from app.models.device import TYPES, device_of
from app.models.hosted import Hosted
from app.models.pixels import Pixels
from app.named import named
from app.outputs import Output, read_outputs
from app.settings import Settings
from app.streams import Scope, Streams
from app.types import Call, ModelInfo, Prediction, StreamInfo, StreamsInfo, Timing

log = logging.getLogger("renorm")


class Engine:
    """One hosted model, the states of its streams, and the threads that decode images and run forwards.

    Three stages overlap: while one group of requests is in its forward, the images of the next are decoded, and the
    answers of the one before are written. Between the first two at most ``max_waiting_bytes`` of pixels wait; between
    the last two one group's answers do, because one forward is in flight at most.

    Everything but forwards and decoding happens on the event loop's thread, so states need no lock.
    """

    def __init__(self, settings: Settings, hosted: Hosted) -> None:
        self.settings, self.hosted = settings, hosted
        adapter, how = named(settings.strategy, {}).adapter, hosted.preprocessing
        device = device_of(settings.device)
        self._model = AdaptiveModel(
            hosted.network,
            adapter,
            prepare=Pixels(how).to(device),
            device=device,
            dtype=TYPES[settings.dtype],
            copy=False,
            compile=settings.compile,
        )
        self._streams = Streams(settings.max_state_bytes, settings.max_streams)
        self._batcher = Batcher(self._forward, self._streams.forget, settings.max_forward_images)
        self._budget = Budget(settings.max_waiting_bytes)
        self._decoders = Decoders(how, Limits(settings.max_image_bytes, settings.max_image_pixels))
        self._thread = ThreadPoolExecutor(1, "renorm-model")

    @classmethod
    async def open(cls, settings: Settings, progress: Callable[[str], None] | None = None) -> Engine:
        """Load the model, run it once and be ready; ``progress`` is told from another thread what is compiled.

        Raises:
            ModelError, adapters.UnsupportedModelError: the model cannot be hosted.
            adapters.UnknownStrategyError: the default strategy does not exist.
        """
        load_plugins()
        engine = cls(settings, await asyncio.to_thread(load, settings))
        await asyncio.get_running_loop().run_in_executor(engine._thread, engine._warm_up, progress)
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
        adapter, name, params = named(call.strategy or self.settings.strategy, call.params)
        self._check_count(len(call.images))
        top_k = min(call.top_k, len(self.hosted.classes))
        ticket = self._batcher.enter(Key(call.stream, adapter), update=call.update, top_k=top_k)
        try:
            result = await self._run(ticket, call)
        finally:
            self._batcher.leave(ticket)
        output = result.output
        return Prediction(
            probabilities=output.probabilities,
            classes=output.classes,
            shares=output.shares,
            entropy=output.entropy,
            strategy=name,
            params=params,
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
            named(strategy, {})
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
        self._decoders.close()

    def _check_count(self, images: int) -> None:
        if images == 0:
            raise FieldError("the request holds no image", hint="send at least one", where="images")
        if images > self.settings.max_images:
            raise TooLargeError(
                f"{images} images in one request, at most {self.settings.max_images} are accepted",
                hint="send them in several requests, or raise RENORM_MAX_IMAGES",
                where="images",
            )

    async def _run(self, ticket: Ticket, call: Call) -> Result:
        """Decode and run, holding as much of the budget as the pixels take."""
        size = len(call.images) * self._decoders.image_bytes
        # Asked for in the order of the tickets, as the budget demands: nothing is awaited between the two.
        await self._budget.take(size)
        try:
            return await self._batcher.run(ticket, await self._decoders(call.images))
        finally:
            self._budget.give_back(size)

    def _warm_up(self, progress: Callable[[str], None] | None) -> None:
        if self.settings.threads is not None:
            torch.set_num_threads(self.settings.threads)
        side = self.hosted.preprocessing.size
        self._model.warm_up(torch.zeros(1, side, side, 3, dtype=torch.uint8, device=self._model.device), progress)

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
        memories = self._streams.memories({ticket.key for ticket in group})
        loop = asyncio.get_running_loop()
        try:
            running = loop.run_in_executor(self._thread, self._work, group, memories)
        except RuntimeError as error:
            raise EngineClosedError("the model thread is gone", hint="restart the server") from error
        return self._settle(group, *await running)

    def _work(self, group: list[Ticket], memories: Mapping[Key, Memory]) -> tuple[Outcome, list[Output]]:
        """What the model thread does for a group; it writes nothing."""
        outcome = self._model.run([_request(ticket) for ticket in group], memories)
        return outcome, read_outputs([a.logits for a in outcome.answers], [ticket.top_k for ticket in group])

    def _settle(self, group: list[Ticket], outcome: Outcome, outputs: list[Output]) -> list[Result | Exception]:
        for key, memory in outcome.memories.items():
            self._streams.commit(key, memory)
        results: list[Result | Exception] = []
        for ticket, answer, output in zip(group, outcome.answers, outputs, strict=True):
            if not math.isfinite(output.entropy):
                results.append(_unanswerable())
                continue
            if answer.updated:
                self._streams.note(ticket.key, len(output.classes), answer.drift, output.entropy)
            results.append(Result(output, answer.drift, answer.step, answer.updated))
        return results


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
