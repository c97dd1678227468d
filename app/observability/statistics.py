"""What the engine has done since it was opened, in the counts and durations of the Open Inference Protocol."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field

from app.types import Timing


@dataclass(frozen=True)
class Duration:
    """How often something was done, and how many nanoseconds that took together."""

    count: int = 0
    ns: int = 0

    def plus(self, ms: float) -> Duration:
        """Once more, for ``ms`` milliseconds."""
        return Duration(self.count + 1, self.ns + round(1e6 * ms))


@dataclass
class BatchStatistics:
    """Of all forwards with the same number of images."""

    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)


@dataclass
class EngineCounters:
    """Counts since the engine was opened. ``success`` and ``fail`` are of requests, from arrival to the answer.

    ``compute_input`` is decoding, ``compute_infer`` the forward that a request shared, ``compute_output`` the commit of
    that forward's states and the making of its answers.
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
        """A forward of that many images, which took ``decode_ms`` to decode in all."""
        self.execution_count += 1
        self.inference_count += images
        self.last_inference_ms = round(1000 * time.time())
        batch = self.batches[images]
        batch.compute_input = batch.compute_input.plus(decode_ms)
        batch.compute_infer = batch.compute_infer.plus(1000 * forward_s)
        batch.compute_output = batch.compute_output.plus(1000 * commit_s)

    def record_answer(self, timing: Timing, commit_ms: float) -> None:
        """A request was answered."""
        self.success = self.success.plus(timing.total)
        self.queue = self.queue.plus(timing.queue)
        self.compute_input = self.compute_input.plus(timing.decode)
        self.compute_infer = self.compute_infer.plus(timing.forward)
        self.compute_output = self.compute_output.plus(commit_ms)

    def record_failure(self, total_ms: float) -> None:
        """A request was refused or failed."""
        self.fail = self.fail.plus(total_ms)
