"""Counters of the engine since it was opened, as in the statistics of the Open Inference Protocol."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field

from app.observability.meter import ForwardEvent, Meter
from app.types import Prediction, Timing


@dataclass(frozen=True)
class Duration:
    """The count of an event and its total duration in nanoseconds."""

    count: int = 0
    ns: int = 0

    def plus(self, ms: float) -> Duration:
        """Return the duration with one more event of ``ms`` milliseconds."""
        return Duration(self.count + 1, self.ns + round(1e6 * ms))


@dataclass
class BatchStatistics:
    """Durations of all forwards with the same number of images."""

    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)


@dataclass
class EngineCounters:
    """Counters since the engine was opened. ``success`` and ``fail`` count requests, from arrival to the answer.

    ``compute_input`` is decoding, ``compute_infer`` the forward that a request shared, ``compute_output`` the commit of
    that forward's states and the creation of its answers.
    """

    last_inference_ms: int = 0  # since the epoch, 0 where there was none
    inference_count: int = 0  # images answered
    execution_count: int = 0  # forwards
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    batches: dict[int, BatchStatistics] = field(default_factory=lambda: defaultdict(BatchStatistics))

    def record_forward(self, images: int, forward_s: float, commit_s: float, decode_ms: float) -> None:
        """Record a forward of ``images`` images, whose decoding took ``decode_ms`` in all."""
        self.execution_count += 1
        self.inference_count += images
        self.last_inference_ms = round(1000 * time.time())
        batch = self.batches[images]
        batch.compute_input = batch.compute_input.plus(decode_ms)
        batch.compute_infer = batch.compute_infer.plus(1000 * forward_s)
        batch.compute_output = batch.compute_output.plus(1000 * commit_s)

    def record_answer(self, timing: Timing, commit_ms: float) -> None:
        """Record an answered request."""
        self.success = self.success.plus(timing.total)
        self.queue = self.queue.plus(timing.queue)
        self.compute_input = self.compute_input.plus(timing.decode)
        self.compute_infer = self.compute_infer.plus(timing.forward)
        self.compute_output = self.compute_output.plus(commit_ms)

    def record_failure(self, total_ms: float) -> None:
        """Record a request that was refused or failed."""
        self.fail = self.fail.plus(total_ms)


class CountingMeter(Meter):
    """Counts the events of one engine, and reports them to another meter, if there is one."""

    def __init__(self, meter: Meter | None = None) -> None:
        self.counters, self._meter = EngineCounters(), meter or Meter()

    def record_prediction(self, prediction: Prediction, images: int) -> None:
        """Count an answered request."""
        self.counters.record_answer(prediction.timing, prediction.commit_ms)
        self._meter.record_answer(prediction.strategy, images, prediction.timing)
        self._meter.record_origin(prediction.state_origin)

    def record_failure(self, kind: str, total_ms: float = 0.0) -> None:
        """Count a request that was refused or failed ``total_ms`` after it arrived."""
        self.counters.record_failure(total_ms)
        self._meter.record_failure(kind)

    def record_forward(self, forward: ForwardEvent) -> None:
        """Record a forward."""
        self.counters.record_forward(forward.images, forward.forward_s, forward.commit_s, 1000 * forward.decode_s)
        self._meter.record_forward(forward)

    def record_lessons(self, streams: int, lesson_s: float) -> None:
        """Record a learning step."""
        self._meter.record_lessons(streams, lesson_s)

    def record_rejection(self, reason: str) -> None:
        """Count a new state that was not committed."""
        self._meter.record_rejection(reason)
