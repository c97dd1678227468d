"""What is counted and timed, and how Prometheus reads it. Knows no HTTP.

The engine and the doors tell a `Meter` what happened. What is remembered of streams is not counted as it happens but
looked at when somebody asks. No label takes a value that a client makes up, but for the names of the busiest streams,
and of those there are at most as many as the settings say.
"""

from __future__ import annotations

import heapq
import math
from asyncio import CancelledError
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from adapters import AdapterError
from app import __version__
from app.errors import EngineClosedError, RenormError
from app.observability.memory_metrics import memory_metrics
from app.observability.meter import Meter
from app.resources.memory import Ledger, Part
from app.types import ModelInfo, Origin, StreamInfo, StreamsInfo, Timing

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Upper bounds of the buckets of durations: from a forward of a small network to a client that gives up."""

COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Upper bounds of the buckets of how many shared a forward; 256 images are the most by default."""

OTHERS = "_others"
"""The stream label of all streams that have no metrics of their own."""

OTHER = "other"
"""The label value of what is not on a list: a path that leads nowhere, a method nobody knows, a foreign exception."""

LONGEST = 100
"""Characters of a stream's name in a label."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Watched(Protocol):
    """What is looked at when somebody asks: the engine."""

    def streams(self) -> StreamsInfo:
        """What is remembered."""

    def describe(self) -> ModelInfo:
        """What is hosted."""

    def memory(self) -> Sequence[Part]:
        """What requests hold of the budget for memory, in the engine."""


class Metrics(Meter):
    """The `Meter` that Prometheus reads: one registry of its own, so that two servers in a process do not mix.

    ``streams`` is how many of the busiest streams have drift and entropy of their own.
    """

    def __init__(self, streams: int = 20) -> None:
        self._streams = streams
        self.ledger: Ledger | None = None  # of what is received, once there is one
        self._described: tuple[Watched, ModelInfo] | None = None
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def seconds(name: str, what: str, *labels: str) -> Histogram:
            return Histogram(f"renorm_{name}_seconds", what, labels, registry=registry, buckets=SECONDS)

        def counts(name: str, what: str) -> Histogram:
            return Histogram(f"renorm_forward_{name}", what, registry=registry, buckets=COUNTS)

        def total(name: str, what: str, label: str) -> Counter:
            return Counter(f"renorm_{name}", what, [label], registry=registry)

        self._requests = seconds("request", "From a call's head to the end of its answer", "route", "method", "status")
        self._decode = seconds("decode", "A request's images from bytes to a tensor, with the wait for a thread")
        self._queue = seconds("queue", "A request's wait for its forward")
        self._forward = seconds("forward", "A forward, adaptation included")
        self._adapt = seconds("adapt", "BatchNorm with all that adapting does, in a forward; not where it is compiled")
        self._commit = seconds("commit", "Committing the states that a forward made")
        self._lesson = seconds("lesson", "What streams learn from answered requests, those of one turn together")
        self._forward_images = counts("images", "Images that shared a forward")
        self._forward_requests = counts("requests", "Requests that shared a forward")
        self._images = total("images", "Images answered", "strategy")
        self._answered = total("requests", "Requests answered", "strategy")
        self._origins = total("state_origins", "Requests answered by where they found their stream", "origin")
        self._failures = total("failures", "Requests that the engine refused or failed", "kind")
        self._rejected = total("updates_rejected", "Requests whose new state was not committed", "reason")

    def record_answer(self, strategy: str, images: int, timing: Timing) -> None:
        """A request was answered."""
        self._answered.labels(strategy).inc()
        self._images.labels(strategy).inc(images)
        self._decode.observe(timing.decode / 1000)
        self._queue.observe(timing.queue / 1000)

    def record_origin(self, origin: Origin) -> None:
        """A request found its stream new, live or evicted."""
        self._origins.labels(origin).inc()

    def record_failure(self, kind: str) -> None:
        """A request was refused or failed. What is neither our error, nor a strategy's, nor a client that went away
        (``CancelledError``) counts as ``other``.
        """
        self._failures.labels(kind if kind in _kinds() else OTHER).inc()

    def record_forward(
        self, requests: int, images: int, forward_s: float, commit_s: float, adapt_s: float | None = None
    ) -> None:
        """A forward is through."""
        self._forward.observe(forward_s)
        self._commit.observe(commit_s)
        if adapt_s is not None:
            self._adapt.observe(adapt_s)
        self._forward_requests.observe(requests)
        self._forward_images.observe(images)

    def record_lessons(self, streams: int, lesson_s: float) -> None:
        """Streams have learned."""
        del streams
        self._lesson.observe(lesson_s)

    def record_rejection(self, reason: str) -> None:
        """A request's new state was not committed."""
        self._rejected.labels(reason).inc()

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """A call over HTTP is over. ``route`` is the path's template, never the path itself."""
        method = method if method in METHODS else OTHER
        self._requests.labels(route, method, f"{status // 100}xx").observe(seconds)

    def look(self, engine: Watched | None) -> Page:
        """What there is now; to be called on the thread that the engine lives on. Without an engine: what was counted.

        Making text of it is for another thread: `Page.text`.
        """
        memory = memory_metrics(self.ledger)
        if engine is None:
            return Page(self._registry, None, self._streams, memory)
        try:
            seen = self._model(engine), engine.streams()
            return Page(self._registry, seen, self._streams, memory_metrics(self.ledger, engine.memory()))
        except EngineClosedError:
            return Page(self._registry, None, self._streams, memory)

    def _model(self, engine: Watched) -> ModelInfo:
        """What is hosted never changes while an engine is open, and describing it takes longer than all the rest."""
        if self._described is None or self._described[0] is not engine:
            self._described = (engine, engine.describe())
        return self._described[1]


class Page(Collector):
    """What one scrape sees."""

    def __init__(
        self,
        registry: CollectorRegistry,
        seen: tuple[ModelInfo, StreamsInfo] | None,
        streams: int,
        memory: Sequence[Metric] = (),
    ) -> None:
        self._registry, self._seen, self._streams, self._held = registry, seen, streams, memory

    def collect(self) -> Iterator[Metric]:
        """Every metric: the counted ones, those of the process, and, with an engine, those of its streams."""
        for metric in self._registry.collect():
            # When a series began is written for each, as a metric of its own: no dashboard asks, and there are many.
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
        yield from self._held
        if self._seen is not None:
            model, streams = self._seen
            yield _info(model)
            yield from _memory(streams)
            yield from _measured(streams.streams, self._streams)

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """The page as Prometheus reads it, and its media type: OpenMetrics where ``accept`` asks for it."""
        encode, media_type = choose_encoder(accept)
        return encode(self), media_type


class Measured(NamedTuple):
    """Drift, adaptation and entropy of one series: means over its states, weighted with their images."""

    stream: str
    strategy: str
    drift: float
    adaptation: float
    entropy: float


def by_stream(infos: Iterable[StreamInfo], most: int) -> list[Measured]:
    """One row for each strategy of the ``most`` busiest streams, and one for each strategy of all others together.

    The busiest are those with the most images, then those whose name comes first. Several states of one stream and
    strategy, with different hyperparameters, are one row. A state that has not answered yet is left out.
    """
    infos = [info for info in infos if info.images > 0]
    images: dict[str, int] = defaultdict(int)
    for info in infos:
        images[info.stream] += info.images
    busiest = set(heapq.nsmallest(most, images, key=lambda name: (-images[name], name)))
    rows: dict[tuple[str, str], list[StreamInfo]] = defaultdict(list)
    for info in infos:
        # Grouped by what is shown, so that names which are shown alike cannot make two series of one name.
        rows[shown(info.stream) if info.stream in busiest else OTHERS, info.strategy].append(info)
    return [
        Measured(
            stream,
            strategy,
            _mean((info.drift, info.images) for info in group),
            _mean((info.adaptation, info.images) for info in group),
            _mean((info.entropy, info.images) for info in group),
        )
        for (stream, strategy), group in sorted(rows.items())
    ]


def shown(name: str) -> str:
    """A stream's name as a label: of bounded length, on one line, of characters that UTF-8 can carry."""
    name = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
    return "".join(one if one.isprintable() else "�" for one in name)


def _mean(values: Iterable[tuple[float, int]]) -> float:
    """The weighted mean of those values that are finite; not a number where none is."""
    finite = [(value, weight) for value, weight in values if math.isfinite(value)]
    weights = sum(weight for _, weight in finite)
    return sum(value * weight for value, weight in finite) / weights if weights else math.nan


def _info(model: ModelInfo) -> Metric:
    said = {
        "version": __version__,
        "model": model.name,
        "default_strategy": model.default_strategy,
        "device": model.device,
        "dtype": model.dtype,
    }
    return InfoMetricFamily("renorm", "What is hosted", value=said)


def _memory(info: StreamsInfo) -> Iterator[Metric]:
    streams = len({one.stream for one in info.streams})
    yield GaugeMetricFamily("renorm_streams", "Streams that are remembered", streams)
    yield GaugeMetricFamily("renorm_states", "States held, of every stream with every strategy", len(info.streams))
    yield GaugeMetricFamily("renorm_state_bytes", "Bytes of all states", info.bytes)
    yield GaugeMetricFamily("renorm_state_capacity_bytes", "Bytes that all states may take", info.capacity_bytes)
    yield CounterMetricFamily("renorm_evictions", "States forgotten to make room", info.evictions)


def _measured(infos: Iterable[StreamInfo], most: int) -> Iterator[Metric]:
    labels = ["stream", "strategy"]
    drift = GaugeMetricFamily(
        "renorm_stream_drift", "How far a stream's last images are from clean ones; 0 is none", labels=labels
    )
    adaptation = GaugeMetricFamily(
        "renorm_stream_adaptation", "How far statistics are from the trained ones, in units of drift", labels=labels
    )
    entropy = GaugeMetricFamily("renorm_stream_entropy", "Entropy of a stream's last request, in nats", labels=labels)
    for row in by_stream(infos, most):
        for family, value in ((drift, row.drift), (adaptation, row.adaptation), (entropy, row.entropy)):
            if math.isfinite(value):
                family.add_metric([row.stream, row.strategy], value)
    yield from (drift, adaptation, entropy)


def _kinds() -> set[str]:
    ours = {kind.__name__ for root in (RenormError, AdapterError) for kind in _tree(root)}
    return ours | {CancelledError.__name__}


def _tree(root: type[Exception]) -> Iterator[type[Exception]]:
    yield root
    for kind in root.__subclasses__():
        yield from _tree(kind)
