"""The forward stage: run a group of requests through the network in one batch, and commit their states."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from contextlib import nullcontext

from adapters import AdaptiveModel, Key, Lesson, Memory, Outcome, Request
from app.errors import UnanswerableError
from app.observability.meter import ForwardEvent, Meter
from app.resources.governor import Governor
from app.serving.explanations import explain_stream
from app.serving.outputs import Output, read_outputs
from app.serving.streams import ResetScope, Streams
from app.serving.tickets import ForwardResult, Ticket
from app.serving.worker import ModelWorker
from app.types import Origin, StreamExplanation

log = logging.getLogger("renorm")


class ForwardStage:
    """Runs groups on the model thread; states are read and committed on the event loop's thread."""

    def __init__(self, model: AdaptiveModel, streams: Streams, thread: ModelWorker, metrics: Meter) -> None:
        self._model, self._streams, self._thread, self.metrics = model, streams, thread, metrics
        self.lesson_bytes = 0  # bytes that the running lessons take
        self.governor: Governor | None = None  # chooses the model thread's number of threads

    async def __call__(self, group: list[Ticket]) -> list[ForwardResult | Exception]:
        """Run a group in one forward; if that fails, run each request separately, so that none can fail the others.

        Returns:
            A result or an exception for each. Nothing is committed for requests that failed.
        """
        try:
            return await self._run_group(group)
        except Exception as error:
            if len(group) == 1 or not self._thread.alive:
                return [error] * len(group)
            log.exception("a forward of %d requests failed; retrying them one by one", len(group))
        return [result for ticket in group for result in await self([ticket])]

    async def learn(self, lessons: Mapping[Key, Lesson]) -> None:
        """Let streams learn from answered requests; a failure is logged and leaves the states unchanged."""
        started, memories = time.perf_counter(), self._streams.memories(set(lessons))
        self.lesson_bytes = self._model.lessons.peak_bytes(lessons)
        try:
            learned = await self._thread.run(lambda: self._model.learn(lessons, memories))
        except Exception:
            log.exception("%d streams could not learn from their last requests", len(lessons))
            return
        finally:
            self.lesson_bytes = 0
        self.metrics.record_lessons(len(lessons), time.perf_counter() - started)
        for key, memory in learned.items():
            # A stream evicted meanwhile starts from its initial state.
            if self._streams.holds(key):
                self._streams.commit(key, memory)

    async def _run_group(self, group: list[Ticket]) -> list[ForwardResult | Exception]:
        started = time.perf_counter()
        # A request that starts its stream reads no state.
        memories = self._streams.memories({ticket.key for ticket in group} - {t.key for t in group if t.start})
        outcome, outputs, explanations = await self._thread.run(lambda: self._work(group, memories))
        finished = time.perf_counter()
        origins = self._origins(group, outcome)
        self._commit(group, outcome, outputs)
        committed = time.perf_counter()
        images = sum(len(output.classes) for output in outputs)
        decode_s = sum(ticket.ready - ticket.arrived for ticket in group)
        durations = finished - started, committed - finished, outcome.adapt_s, decode_s
        self.metrics.record_forward(ForwardEvent(len(group), images, *durations))
        return self._results(group, outcome, outputs, origins, explanations, 1000 * (committed - finished))

    def _work(
        self, group: list[Ticket], memories: Mapping[Key, Memory]
    ) -> tuple[Outcome, list[Output], list[StreamExplanation | None]]:
        """Run the forward of a group on the model thread, without writing to any state."""
        timing = nullcontext() if self.governor is None else self.governor.forward(sum(t.count for t in group))
        with timing:
            outcome = self._model.run([_request(ticket) for ticket in group], memories)
            outputs = read_outputs([answer.logits for answer in outcome.answers], [ticket.top_k for ticket in group])
            return outcome, outputs, self._explain(group, memories, outcome)

    def _explain(
        self, group: list[Ticket], memories: Mapping[Key, Memory], outcome: Outcome
    ) -> list[StreamExplanation | None]:
        """Explain the stream of each request that asks for it, from its state after the answer."""
        explanations: list[StreamExplanation | None] = [None] * len(group)
        for index, ticket in enumerate(group):
            if ticket.explain:
                memory = outcome.memories.get(ticket.key) or memories.get(ticket.key)
                explanations[index] = explain_stream(self._model.explain(ticket.key, memory))
        return explanations

    def _origins(self, group: list[Ticket], outcome: Outcome) -> list[Origin]:
        """Return the state origin of each request, counting the requests ahead of it in the group as committed."""
        origins: list[Origin] = []
        updated: set[Key] = set()
        for ticket, answer in zip(group, outcome.answers, strict=True):
            key = ticket.key
            origins.append("live" if key in updated else "new" if ticket.start else self._streams.origin(key))
            if answer.updated:
                updated.add(key)
        return origins

    def _commit(self, group: list[Ticket], outcome: Outcome, outputs: list[Output]) -> None:
        answered = [ticket for ticket, output in zip(group, outputs, strict=True) if math.isfinite(output.entropy)]
        for ticket in answered:
            if ticket.start:
                self._streams.forget(ResetScope(str(ticket.key.stream)))
        clients = {ticket.key: ticket.client for ticket in reversed(group)}
        for key, memory in outcome.memories.items():
            self._streams.commit(key, memory, clients[key])
        for ticket, answer, output in zip(group, outcome.answers, outputs, strict=True):
            if answer.updated and math.isfinite(output.entropy):
                self._streams.note(ticket.key, len(output.classes), answer.drift, answer.adaptation, output.entropy)
        for ticket in answered:
            if ticket.end:
                self._streams.forget(ResetScope(str(ticket.key.stream)))

    def _results(
        self,
        group: list[Ticket],
        outcome: Outcome,
        outputs: list[Output],
        origins: list[Origin],
        explanations: list[StreamExplanation | None],
        commit_ms: float,
    ) -> list[ForwardResult | Exception]:
        results: list[ForwardResult | Exception] = []
        rows = zip(group, outcome.answers, outputs, origins, explanations, strict=True)
        for ticket, answer, output, origin, explanation in rows:
            if math.isfinite(output.entropy):
                lesson = outcome.lessons.get(ticket.key) if ticket.has_lesson else None
                figures = (answer.drift, answer.adaptation, answer.step, answer.updated, answer.outliers, answer.weight)
                results.append(ForwardResult(output, *figures, commit_ms, origin, explanation, lesson))
                if answer.outliers and ticket.update:
                    self.metrics.record_rejection("outlier")
                continue
            if ticket.update:
                self.metrics.record_rejection("not_finite")
            results.append(_not_finite_error())
        return results


def _request(ticket: Ticket) -> Request:
    if ticket.images is None:
        raise ValueError("a ticket is dispatched only when its images are decoded")
    return Request(ticket.images, ticket.key.stream, ticket.key.strategy, ticket.update)


def _not_finite_error() -> UnanswerableError:
    return UnanswerableError(
        "the network's output for these images is not finite (NaN or infinity), so nothing was learned from them",
        hint="check preprocessing and weights; if the stream's state is the cause, reset the stream",
    )
