"""What is counted, and what of the streams is stream_label: never more series than the settings allow."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import json
import math
import re
from asyncio import CancelledError
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from adapters import ParameterError
from app import __version__
from app.errors import EngineClosedError, RenormError, StreamBusyError
from app.observability.meter import ForwardEvent, Meter
from app.observability.metrics import COUNTS, SECONDS, Metrics, Scrape
from app.observability.stream_metrics import LABEL_LENGTH, OTHERS, by_stream, stream_label
from app.resources.memory import Ledger
from app.settings import Settings
from app.types import StreamInfo, StreamsInfo, Timing
from tests.app.fakes import STATE, FakeEngine

TIMING = Timing(decode=1.0, queue=0.5, forward=4.0, total=5.5)


def state(stream: str, images: int, drift: float = 1.0, entropy: float = 0.5, strategy: str = "adabn") -> StreamInfo:
    return dataclasses.replace(
        STATE, stream=stream, images=images, drift=drift, entropy=entropy, strategy=strategy, params={"images": images}
    )


class Watched(FakeEngine):
    """An engine with these streams."""

    def __init__(self, *states: StreamInfo) -> None:
        super().__init__(Settings())
        self.states = list(states)
        self.described = 0

    async def streams(self) -> StreamsInfo:
        self._fail()
        return StreamsInfo(self.states, bytes=64, capacity_bytes=100, evictions=7)


Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def look(metrics: Metrics, engine: Watched | None = None) -> Scrape:
    return asyncio.run(metrics.look(engine))


def read(metrics: Metrics, engine: Watched | None = None) -> Series:
    """Every sample of a scrape by name and labels."""
    text, _ = look(metrics, engine).text()
    samples = [sample for family in text_string_to_metric_families(text.decode()) for sample in family.samples]
    series = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}
    assert len(series) == len(samples), "a series is written twice"
    return series


def value(series: Series, name: str, **labels: str) -> float:
    return series[name, tuple(sorted(labels.items()))]


def names(series: Series) -> set[str]:
    return {name for name, _ in series}


def test_events_of_the_engine_are_counted() -> None:
    metrics = Metrics()
    metrics.record_answer("adabn", 3, TIMING)
    metrics.record_answer("adabn", 2, TIMING)
    metrics.record_answer("source", 1, TIMING)
    metrics.record_forward(ForwardEvent(requests=3, images=6, forward_s=0.004, commit_s=0.0001, adapt_s=0.0015))
    metrics.record_forward(ForwardEvent(requests=1, images=1, forward_s=0.004, commit_s=0.0001))
    metrics.record_lessons(streams=3, lesson_s=0.04)
    metrics.record_rejection("not_finite")
    metrics.record_origin("evicted")
    series = read(metrics)
    assert value(series, "renorm_lesson_seconds_bucket", le="0.05") == 1
    assert value(series, "renorm_lesson_seconds_sum") == pytest.approx(0.04)
    assert value(series, "renorm_state_origins_total", origin="evicted") == 1
    assert value(series, "renorm_images_total", strategy="adabn") == 5
    assert value(series, "renorm_requests_total", strategy="adabn") == 2
    assert value(series, "renorm_requests_total", strategy="source") == 1
    assert value(series, "renorm_decode_seconds_sum") == pytest.approx(0.003)
    assert value(series, "renorm_queue_seconds_sum") == pytest.approx(0.0015)
    assert value(series, "renorm_forward_seconds_bucket", le="0.005") == 2
    assert value(series, "renorm_forward_seconds_bucket", le="0.002") == 0
    assert value(series, "renorm_commit_seconds_bucket", le="0.0005") == 2
    assert value(series, "renorm_adapt_seconds_bucket", le="0.002") == 1
    assert value(series, "renorm_adapt_seconds_count") == 1
    assert value(series, "renorm_forward_images_sum") == 7
    assert value(series, "renorm_forward_requests_sum") == 4
    assert value(series, "renorm_updates_rejected_total", reason="not_finite") == 1


def test_failures_are_counted_by_class_and_foreign_ones_together() -> None:
    metrics = Metrics()
    for error in (StreamBusyError("busy"), ParameterError("wrong"), CancelledError(), KeyError("x"), MemoryError()):
        metrics.record_failure(type(error).__name__)
    series = read(metrics)
    kinds = {dict(labels)["kind"]: n for (name, labels), n in series.items() if name == "renorm_failures_total"}
    assert kinds == {"StreamBusyError": 1, "ParameterError": 1, "CancelledError": 1, "other": 2}


def test_calls_are_timed_by_route_method_and_class_of_status() -> None:
    metrics = Metrics()
    metrics.request("/v1/predict", "POST", 200, 0.3)
    metrics.request("/v1/predict", "POST", 201, 0.3)
    metrics.request("/v1/predict", "BREW", 418, 0.0)
    series = read(metrics)
    assert value(series, "renorm_request_seconds_count", route="/v1/predict", method="POST", status="2xx") == 2
    assert value(series, "renorm_request_seconds_count", route="/v1/predict", method="other", status="4xx") == 1


def test_buckets_reach_from_half_a_millisecond_to_ten_seconds() -> None:
    assert (SECONDS[0], SECONDS[-1]) == (0.0005, 10.0)
    assert list(SECONDS) == sorted(SECONDS)
    assert COUNTS[-1] == Settings().max_forward_images


def test_without_an_engine_there_is_the_process_and_what_was_counted() -> None:
    assert Watched().describe().name == "fake-net"
    series = read(Metrics())
    assert "process_resident_memory_bytes" in names(series)
    assert not names(series) & {"renorm_info", "renorm_streams", "renorm_state_bytes", "renorm_stream_drift"}


def test_an_engine_that_is_closing_is_like_none() -> None:
    engine = Watched()
    engine.failure = EngineClosedError("closed")
    assert "renorm_streams" not in names(read(Metrics(), engine))
    engine.failure = RuntimeError("broken")
    with pytest.raises(RuntimeError, match="broken"):
        look(Metrics(), engine)


def test_the_memory_and_what_is_hosted() -> None:
    engine = Watched(state("a", 1), state("a", 2, strategy="bn"), state("b", 3))
    series = read(Metrics(), engine)
    said = {"version": __version__, "model": "fake-net", "default_strategy": "adabn", "device": "cpu"}
    assert value(series, "renorm_info", **said, dtype="float32") == 1
    expected = {"streams": 2, "states": 3, "state_bytes": 64, "state_capacity_bytes": 100, "evictions_total": 7}
    assert {name: value(series, f"renorm_{name}") for name in expected} == expected


def test_the_model_is_described_once_for_each_engine() -> None:
    class Counting(Watched):
        def describe(self) -> None:  # type: ignore[override]
            self.described += 1
            return super().describe()  # type: ignore[return-value]

    metrics, first, second = Metrics(), Counting(), Counting()
    for engine in (first, first, second, second):
        read(metrics, engine)
    assert (first.described, second.described) == (1, 1)


def test_the_busiest_streams_have_their_own_series_and_ties_go_by_name() -> None:
    states = [state("d", 5, 0.1), state("c", 9, 0.2), state("b", 5, 0.3), state("a", 1, 0.4)]
    rows = {row.stream: row.drift for row in by_stream(states, 2)}
    assert rows == {"c": 0.2, "b": 0.3, OTHERS: pytest.approx((0.1 * 5 + 0.4 * 1) / 6)}
    assert set(rows) == {row.stream for row in by_stream(reversed(states), 2)}


def test_a_stream_is_as_busy_as_all_its_strategies_together() -> None:
    states = [state("a", 3), state("a", 3, strategy="bn"), state("b", 5)]
    assert [(row.stream, row.strategy) for row in by_stream(states, 1)] == [
        (OTHERS, "adabn"),
        ("a", "adabn"),
        ("a", "bn"),
    ]


def test_no_stream_has_series_of_its_own_if_none_should() -> None:
    (row,) = by_stream([state("a", 1, 1.0), state("b", 3, 2.0)], 0)
    assert (row.stream, row.drift) == (OTHERS, 1.75)


def test_states_of_one_stream_with_other_hyperparameters_are_one_series() -> None:
    (row,) = by_stream([state("a", 1, drift=1.0, entropy=0.0), state("a", 3, drift=2.0, entropy=1.0)], 5)
    assert (row.drift, row.entropy) == (1.75, 0.75)


def test_a_million_streams_do_not_make_a_million_series() -> None:
    engine = Watched(*(state(f"camera-{i}", 1 + i % 7) for i in range(20_000)))
    series = read(Metrics(streams=20), engine)
    assert len([1 for name, _ in series if name == "renorm_stream_drift"]) == 21
    assert value(series, "renorm_streams") == 20_000


def test_values_that_are_not_finite_are_left_out() -> None:
    engine = Watched(state("a", 2, math.nan, 1.0), state("b", 1, math.inf, math.nan), state("c", 0))
    series = read(Metrics(), engine)
    assert value(series, "renorm_stream_entropy", stream="a", strategy="adabn") == 1.0
    assert {labels for name, labels in series if name == "renorm_stream_drift"} == set()
    assert not [1 for _, labels in series if ("stream", "c") in labels]
    (row,) = by_stream([state("a", 2, math.inf), state("a", 1, 0.5)], 1)
    assert row.drift == 0.5


HOSTILE = ['say "hi"', "back\\slash", "two\nlines", "bell\a", "\ud800", "x" * 10_000, "}\u2028{", "Küche 7"]


def test_names_cannot_break_the_page() -> None:
    series = read(Metrics(), Watched(*(state(name, 1) for name in HOSTILE)))
    streams = {dict(labels)["stream"] for name, labels in series if name == "renorm_stream_drift"}
    assert len(streams) == len(HOSTILE)
    assert {'say "hi"', "back\\slash", "Küche 7", "two�lines"} <= streams
    assert all(len(stream) <= LABEL_LENGTH and stream.isprintable() for stream in streams)


def test_names_that_are_shown_alike_are_one_series() -> None:
    long = "x" * LABEL_LENGTH
    assert stream_label(long) == long
    series = read(Metrics(), Watched(state(long + "1", 1, 1.0), state(long + "2", 3, 2.0), state(OTHERS, 1)))
    assert value(series, "renorm_stream_drift", stream=stream_label(long + "1"), strategy="adabn") == 1.75


def test_two_servers_in_a_process_do_not_mix() -> None:
    one, other = Metrics(), Metrics()
    one.record_answer("adabn", 1, TIMING)
    assert ("renorm_images_total", (("strategy", "adabn"),)) not in read(other)
    assert not [family for family in REGISTRY.collect() if family.name.startswith("renorm")]


def test_series_are_written_without_their_start() -> None:
    metrics = Metrics()
    metrics.record_answer("adabn", 1, TIMING)
    assert b"_created" not in look(metrics, Watched(STATE)).text()[0]
    assert b"_created" not in look(metrics).text("application/openmetrics-text")[0]


def test_memory_is_shown_by_kind_and_refusals_by_reason() -> None:
    assert not any("memory" in name for name in names(read(Metrics())) if name.startswith("renorm"))
    ledger = Ledger(100, 50)
    metrics = Metrics(ledger=ledger)
    for kind, amount in (("bodies", 30), ("bodies", 5), ("frames", 20)):
        ledger.open(kind).take(amount)
    for amount in (51, 50):
        with pytest.raises(RenormError):
            ledger.open("bodies").take(amount)
    series = read(metrics)
    held = {kind: value(series, "renorm_memory_bytes", kind=kind) for kind in ("bodies", "frames")}
    assert held == {"bodies": 35, "frames": 20}
    assert value(series, "renorm_memory_refusals_total", reason="connection") == 1
    assert value(series, "renorm_memory_refusals_total", reason="total") == 1
    series = read(metrics, Watched(STATE))
    assert value(series, "renorm_memory_bytes", kind="decoded") == 10
    assert value(series, "renorm_memory_capacity_bytes", kind="received") == 100
    assert value(series, "renorm_memory_capacity_bytes", kind="decoded") == 100


def test_metrics_and_the_base_meter_accept_the_same_events() -> None:
    metrics = Metrics()
    meters: list[Meter] = [Meter(), metrics]
    for meter in meters:
        meter.record_answer("adabn", 1, TIMING)
        meter.record_failure("FieldError")
        meter.record_forward(ForwardEvent(1, 1, 0.1, 0.1))
        meter.record_lessons(1, 0.1)
        meter.record_rejection("not_finite")
        meter.record_origin("evicted")
    series = read(metrics, Watched(STATE))
    assert value(series, "renorm_updates_rejected_total", reason="not_finite") == 1


ROOT = Path(__file__).parents[3]
MENTION = re.compile(r"\brenorm_[a-z_]+")
SUFFIXES = ("_bucket", "_count", "_sum")


def existing() -> set[str]:
    """The names of all metrics of ours, histograms without the suffixes of their series."""
    metrics = Metrics(ledger=Ledger(2, 1))
    text, _ = look(metrics, Watched(STATE)).text()
    return {line.split()[2] for line in text.decode().splitlines() if line.startswith("# TYPE renorm_")}


def mentioned(text: str) -> set[str]:
    return {re.sub(rf"({'|'.join(SUFFIXES)})$", "", name) for name in MENTION.findall(text)}


def test_the_page_names_every_metric_and_no_other() -> None:
    page = (ROOT / "docs" / "observability.md").read_text()
    table = {name for line in page.splitlines() if line.startswith("| `renorm_") for name in mentioned(line)}
    assert table == existing()
    assert mentioned(page) == existing()


def test_the_dashboard_and_the_scrape_are_readable_and_name_only_what_exists() -> None:
    dashboard = json.loads((ROOT / "docker" / "grafana-dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) > 10
    for query in queries:
        assert mentioned(query), query
        assert mentioned(query) <= existing(), query
        assert query.count("(") == query.count(")"), query
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    yaml: Any = importlib.import_module("yaml")
    (job,) = yaml.safe_load((ROOT / "docker" / "prometheus.yml").read_text())["scrape_configs"]
    assert (job["job_name"], job["static_configs"]) == ("renorm", [{"targets": [f"127.0.0.1:{Settings().port}"]}])


def test_labels_are_as_the_page_says() -> None:
    page = (ROOT / "docs" / "observability.md").read_text()
    rows = re.findall(r"^\| `(renorm_\w+)` \|([^|]*)\|", page, re.MULTILINE)
    ledger, said = Ledger(2, 1), {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    ledger.open("bodies").take(1)
    metrics = Metrics(ledger=ledger)
    metrics.record_answer("adabn", 1, TIMING)
    metrics.record_failure("FieldError")
    metrics.record_forward(ForwardEvent(1, 1, 0.1, 0.1))
    metrics.record_rejection("not_finite")
    metrics.record_origin("evicted")
    metrics.request("/", "GET", 200, 0.1)
    found: dict[str, set[str]] = {name: set() for name in said}
    for name, labels in read(metrics, Watched(STATE)):
        if name.startswith("renorm_"):
            found[mentioned(name).pop()] |= {label for label, _ in labels if label != "le"}
    assert found == said
