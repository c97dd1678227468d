"""Prometheus metrics of what streams lean on: means over the states used last, by strategy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from app.types import StreamExplanation

SAMPLE = 32
"""States that are explained at a scrape, half a millisecond each for the bundled network."""

STATISTICS = ("trained", "memory", "request")
"""The parts of the statistics that normalize an image."""

Figure = Callable[[StreamExplanation], float | None]

GAUGES: dict[str, tuple[str, Figure]] = {
    "averaged_images": ("Images that the averages of a stream stand for", lambda e: e.averaged_images),
    "independent_images": ("Independent images that these count as", lambda e: e.independent_images),
    "corrected_streams_ratio": ("Share of streams whose answers are corrected now", lambda e: e.is_corrected),
    "change_alarms_ratio": ("Share of streams whose change alarm is raised", lambda e: e.change_alarm),
    "mixed_streams_ratio": ("Share of streams whose domains are taken to be mixed", lambda e: e.is_mixture),
}
"""Description and figure of each metric that is a mean over streams."""


def explanation_metrics(explanations: Iterable[tuple[str, StreamExplanation]]) -> Iterator[Metric]:
    """Yield the means over the states of each strategy; a figure that none of them has is left out."""
    by_strategy: dict[str, list[StreamExplanation]] = defaultdict(list)
    for strategy, explanation in explanations:
        by_strategy[strategy].append(explanation)
    strategies = sorted(by_strategy.items())
    count = GaugeMetricFamily("renorm_explained_states", "States that the following are means of", labels=["strategy"])
    weight = GaugeMetricFamily(
        "renorm_normalization_weight",
        "Weight of training data, stream and image in the statistics that normalize the next image",
        labels=["strategy", "statistics"],
    )
    for strategy, group in strategies:
        count.add_metric([strategy], len(group))
        for part in STATISTICS:
            _add_mean(weight, [strategy, part], (getattr(explanation, part) for explanation in group))
    yield from (count, weight)
    for name, (description, figure) in GAUGES.items():
        family = GaugeMetricFamily(f"renorm_{name}", description, labels=["strategy"])
        for strategy, group in strategies:
            _add_mean(family, [strategy], map(figure, group))
        yield family


def _add_mean(family: GaugeMetricFamily, labels: list[str], figures: Iterable[float | None]) -> None:
    values = [value for value in figures if value is not None]
    if values:
        family.add_metric(labels, sum(values) / len(values))
