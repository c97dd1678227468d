"""Counters and timings in Prometheus format. Knows no HTTP.

The engine and the doors report events to a `Meter`. Figures of streams are not counted but read from the engine at each
scrape. No label has a value chosen by a client, except the names of the busiest streams, whose number the settings
bound.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from adapters import AdapterError
from app import __version__
from app.errors import BusyError, EngineClosedError, RenormError
from app.observability.explanation_metrics import SAMPLE, explanation_metrics
from app.observability.memory_metrics import memory_metrics
from app.observability.meter import ForwardEvent, Meter
from app.observability.process_metrics import process_metrics
from app.observability.stream_metrics import stream_metrics
from app.resources.memory import Ledger, MemoryUse
from app.types import EngineProcess, ModelInfo, Origin, StreamExplanation, StreamsInfo, Timing

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Upper bounds of the buckets of durations: from a forward of a small network to a client that gives up."""

COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Upper bounds of the buckets of requests and images per forward; at most 256 images by default."""

OTHER = "other"
"""The label value of unlisted items: an unknown path, an unknown method, a foreign exception."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


Explanations = Sequence[tuple[str, StreamExplanation]]
"""Explanations of states, each under the name of its strategy."""


class Watched(Protocol):
    """The part of the engine that a scrape reads."""

    async def streams(self) -> StreamsInfo:
        """Describe all states."""

    def describe(self) -> ModelInfo:
        """Describe the hosted model."""

    async def memory(self) -> Sequence[MemoryUse]:
        """Return the parts of the memory budget that requests hold in the engine."""

    @property
    def processes(self) -> Sequence[EngineProcess]:
        """The processes that run forwards."""

    async def explanations(self, limit: int) -> Explanations:
        """Explain the states used last."""


class Metrics(Meter):
    """The `Meter` that Prometheus reads, with a separate registry, so that two servers in a process do not mix.

    ``streams`` is the number of busiest streams with separate drift and entropy, ``ledger`` counts received bytes.
    """

    def __init__(self, streams: int = 20, ledger: Ledger | None = None) -> None:
        self._streams, self._ledger = streams, ledger
        self._described: tuple[Watched, ModelInfo] | None = None
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def seconds(name: str, description: str, *labels: str) -> Histogram:
            return Histogram(f"renorm_{name}_seconds", description, labels, registry=registry, buckets=SECONDS)

        def counts(name: str, description: str) -> Histogram:
            return Histogram(f"renorm_forward_{name}", description, registry=registry, buckets=COUNTS)

        def total(name: str, description: str, label: str) -> Counter:
            return Counter(f"renorm_{name}", description, [label], registry=registry)

        self._requests = seconds(
            "request", "An HTTP call, from its head to the end of its answer", "route", "method", "status"
        )
        self._decode = seconds("decode", "Decoding of a request's images to a tensor, including the wait for a thread")
        self._queue = seconds("queue", "A request's wait for its forward")
        self._forward = seconds("forward", "A forward, adaptation included")
        self._adapt = seconds("adapt", "BatchNorm with adaptation, in a forward; not measured where it is compiled")
        self._commit = seconds("commit", "Committing the states that a forward made")
        self._lesson = seconds("lesson", "Learning steps of streams from answered requests, those of one turn together")
        self._forward_images = counts("images", "Images that shared a forward")
        self._forward_requests = counts("requests", "Requests that shared a forward")
        self._images = total("images", "Images answered", "strategy")
        self._answered = total("requests", "Requests answered", "strategy")
        self._origins = total("state_origins", "Requests answered, by the origin of their state", "origin")
        self._failures = total("failures", "Requests that the engine refused or failed", "kind")
        self._rejected = total("updates_rejected", "Requests whose new state was not committed", "reason")

    def record_answer(self, strategy: str, images: int, timing: Timing) -> None:
        """Count an answered request."""
        self._answered.labels(strategy).inc()
        self._images.labels(strategy).inc(images)
        self._decode.observe(timing.decode / 1000)
        self._queue.observe(timing.queue / 1000)

    def record_origin(self, origin: Origin) -> None:
        """Count the origin of a request's state, see `app.types.Origin`."""
        self._origins.labels(origin).inc()

    def record_failure(self, kind: str) -> None:
        """Count a request that was refused or failed.

        Exceptions other than ours, a strategy's and a disconnected client's (``CancelledError``) count as ``other``.
        """
        self._failures.labels(kind if kind in _kinds() else OTHER).inc()

    def record_forward(self, forward: ForwardEvent) -> None:
        """Record a finished forward."""
        self._forward.observe(forward.forward_s)
        self._commit.observe(forward.commit_s)
        if forward.adapt_s is not None:
            self._adapt.observe(forward.adapt_s)
        self._forward_requests.observe(forward.requests)
        self._forward_images.observe(forward.images)

    def record_lessons(self, streams: int, lesson_s: float) -> None:
        """Record a learning step."""
        del streams
        self._lesson.observe(lesson_s)

    def record_rejection(self, reason: str) -> None:
        """Count a new state that was not committed."""
        self._rejected.labels(reason).inc()

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Record a finished HTTP call. ``route`` is the template of the path, never the path itself."""
        method = method if method in METHODS else OTHER
        self._requests.labels(route, method, f"{status // 100}xx").observe(seconds)

    async def look(self, engine: Watched | None) -> Scrape:
        """Take a snapshot for one scrape; without an engine it has counters only.

        Rendering it as text is for another thread: `Scrape.text`.
        """
        memory = memory_metrics(self._ledger)
        if engine is None:
            return Scrape(self._registry, None, self._streams, memory)
        try:
            parts = self._model(engine), await engine.streams(), await engine.explanations(SAMPLE)
            memory = memory_metrics(self._ledger, await engine.memory())
            return Scrape(self._registry, Snapshot(*parts, engine.processes), self._streams, memory)
        except (EngineClosedError, BusyError):  # it is closing, or an engine process has just ended
            return Scrape(self._registry, None, self._streams, memory)

    def _model(self, engine: Watched) -> ModelInfo:
        """Return the model's description, cached because it takes longer than the rest of a scrape."""
        if self._described is None or self._described[0] is not engine:
            self._described = (engine, engine.describe())
        return self._described[1]


class Snapshot(NamedTuple):
    """The part of a scrape that an engine tells."""

    model: ModelInfo
    streams: StreamsInfo
    explanations: Explanations
    processes: Sequence[EngineProcess]


class Scrape(Collector):
    """The snapshot of one scrape."""

    def __init__(
        self,
        registry: CollectorRegistry,
        snapshot: Snapshot | None,
        streams: int,
        memory: Sequence[Metric] = (),
    ) -> None:
        self._registry, self._snapshot, self._streams, self._memory_metrics = registry, snapshot, streams, memory

    def collect(self) -> Iterator[Metric]:
        """Yield every metric: counters, those of the process, and, with an engine, those of its streams."""
        for metric in self._registry.collect():
            # The creation time of each series is a separate metric: there are many, and no dashboard uses them.
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
        yield from self._memory_metrics
        if self._snapshot is not None:
            model, streams, explanations, processes = self._snapshot
            yield _info(model)
            yield from stream_metrics(streams, self._streams)
            yield from process_metrics(processes)
            yield from explanation_metrics(explanations)

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """Render the page, and return it with its media type: OpenMetrics where ``accept`` asks for it."""
        encode, media_type = choose_encoder(accept)
        return encode(self), media_type


def _info(model: ModelInfo) -> Metric:
    labels = {
        "version": __version__,
        "model": model.name,
        "default_strategy": model.default_strategy,
        "device": model.device,
        "dtype": model.dtype,
    }
    return InfoMetricFamily("renorm", "The hosted model", value=labels)


def _kinds() -> set[str]:
    kinds = {kind.__name__ for root in (RenormError, AdapterError) for kind in _subclasses(root)}
    return kinds | {CancelledError.__name__}


def _subclasses(root: type[Exception]) -> Iterator[type[Exception]]:
    yield root
    for kind in root.__subclasses__():
        yield from _subclasses(kind)
