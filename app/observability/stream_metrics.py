"""Prometheus metrics of streams and their states."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from app.types import StreamInfo, StreamsInfo

OTHERS = "_others"
"""The stream label of all streams without separate metrics."""

LABEL_LENGTH = 100
"""Maximum characters of a stream's name in a label."""


class StreamFigures(NamedTuple):
    """Drift, adaptation and entropy of one series: means over its states, weighted by their images."""

    stream: str
    strategy: str
    drift: float
    adaptation: float
    entropy: float


def by_stream(infos: Iterable[StreamInfo], limit: int) -> list[StreamFigures]:
    """Return a row for each strategy of the ``limit`` busiest streams, and one for each strategy of all others.

    The busiest are those with the most images, then those whose name comes first. Several states of one stream and
    strategy, with different hyperparameters, are one row. A state without an answer yet is omitted.
    """
    infos = [info for info in infos if info.images > 0]
    images: dict[str, int] = defaultdict(int)
    for info in infos:
        images[info.stream] += info.images
    busiest = set(heapq.nsmallest(limit, images, key=lambda name: (-images[name], name)))
    rows: dict[tuple[str, str], list[StreamInfo]] = defaultdict(list)
    for info in infos:
        # Grouped by label, so that names with equal labels cannot make two series of one name.
        rows[stream_label(info.stream) if info.stream in busiest else OTHERS, info.strategy].append(info)
    return [
        StreamFigures(
            stream,
            strategy,
            _mean((info.drift, info.images) for info in group),
            _mean((info.adaptation, info.images) for info in group),
            _mean((info.entropy, info.images) for info in group),
        )
        for (stream, strategy), group in sorted(rows.items())
    ]


def stream_label(name: str) -> str:
    """Return a stream's name as a label: of bounded length, on one line, valid in UTF-8."""
    name = name if len(name) <= LABEL_LENGTH else f"{name[: LABEL_LENGTH - 1]}…"
    return "".join(character if character.isprintable() else "�" for character in name)


def _mean(values: Iterable[tuple[float, int]]) -> float:
    """Return the weighted mean of the finite values; NaN where there are none."""
    finite = [(value, weight) for value, weight in values if math.isfinite(value)]
    weights = sum(weight for _, weight in finite)
    return sum(value * weight for value, weight in finite) / weights if weights else math.nan


def stream_metrics(info: StreamsInfo, limit: int) -> Iterator[Metric]:
    """Yield the metrics of all states together, and those of the ``limit`` busiest streams and of all others."""
    streams = len({state.stream for state in info.streams})
    yield GaugeMetricFamily("renorm_streams", "Streams that have a state", streams)
    yield GaugeMetricFamily("renorm_states", "States held, of every stream with every strategy", len(info.streams))
    yield GaugeMetricFamily("renorm_state_bytes", "Bytes of all states", info.bytes)
    yield GaugeMetricFamily("renorm_state_capacity_bytes", "Limit on the bytes of all states", info.capacity_bytes)
    yield CounterMetricFamily("renorm_evictions", "States evicted to make room", info.evictions)
    yield from _figures(info.streams, limit)


def _figures(infos: Iterable[StreamInfo], limit: int) -> Iterator[Metric]:
    labels = ["stream", "strategy"]
    drift = GaugeMetricFamily(
        "renorm_stream_drift", "Distance of a stream's last images from clean ones; 0 is none", labels=labels
    )
    adaptation = GaugeMetricFamily(
        "renorm_stream_adaptation",
        "Distance of the statistics used from the trained ones, in units of drift",
        labels=labels,
    )
    entropy = GaugeMetricFamily("renorm_stream_entropy", "Entropy of a stream's last request, in nats", labels=labels)
    for row in by_stream(infos, limit):
        for family, value in ((drift, row.drift), (adaptation, row.adaptation), (entropy, row.entropy)):
            if math.isfinite(value):
                family.add_metric([row.stream, row.strategy], value)
    yield from (drift, adaptation, entropy)
