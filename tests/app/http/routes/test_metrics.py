"""GET /metrics, as Prometheus asks."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain

from tests.app.fakes import Client

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.2"
)


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain", "text/html,application/xhtml+xml"])
def test_the_text_format(accept: str) -> None:
    response = Client().get("/metrics", headers={"Accept": accept})
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in plain(response.text)}
    (sample,) = families["renorm_stream_drift"].samples
    assert (sample.labels, sample.value) == ({"stream": "camera-7", "strategy": "adabn"}, 0.5)
    assert families["renorm_evictions"].samples[0].value == 1


@pytest.mark.parametrize("accept", ["application/openmetrics-text", PROMETHEUS])
def test_openmetrics_where_it_is_asked_for(accept: str) -> None:
    response = Client().get("/metrics", headers={"Accept": accept})
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert response.text.endswith("# EOF\n")
    families = open_metrics(response.text)  # type: ignore[no-untyped-call]
    assert {"renorm_streams", "renorm_request_seconds", "renorm"} <= {family.name for family in families}


def test_before_the_engine_is_open() -> None:
    response = Client(started=False).get("/metrics")
    assert response.status_code == 200
    found = {family.name for family in plain(response.text)}
    assert "process_resident_memory_bytes" in found
    assert "renorm_streams" not in found


def test_number_of_shown_streams_is_a_setting() -> None:
    (family,) = [
        one for one in plain(Client(metrics_streams=0).get("/metrics").text) if one.name == "renorm_stream_drift"
    ]
    assert [sample.labels["stream"] for sample in family.samples] == ["_others"]


def test_a_scrape_changes_nothing_and_shows_the_one_before() -> None:
    client = Client()
    counts = []
    for _ in range(3):
        samples = [sample for family in plain(client.get("/metrics").text) for sample in family.samples]
        named = [one for one in samples if one.name == "renorm_request_seconds_count"]
        counts.append([(one.labels["route"], one.value) for one in named])
    assert counts == [[], [("/metrics", 1)], [("/metrics", 2)]]
    assert client.engine.calls == []


def test_openapi_says_that_it_is_text() -> None:
    paths = Client().get("/openapi.json").json()["paths"]
    assert set(paths["/metrics"]["get"]["responses"]["200"]["content"]) == {"text/plain"}


OPEN, TEXT = "application/openmetrics-text", "text/plain"


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (f"{OPEN};q=0", TEXT),
        (f"{OPEN};version=1.0.0;q=0, {TEXT}", TEXT),
        (f"{OPEN};q=0.0,*/*", TEXT),
        (f"{OPEN}; Q=0 , {TEXT};q=0.1", TEXT),
        (f"{OPEN};q=0.5, {TEXT}", TEXT),
        (f"{TEXT};q=0.5, {OPEN}", OPEN),
        (f"{TEXT};q=0.5, {OPEN};q=0.6", OPEN),
        (f"{TEXT}, {OPEN}", OPEN),
        (f"{TEXT};q=0, {OPEN}", OPEN),
        (f"{TEXT};q=0, */*", OPEN),
        ("application/*", OPEN),
        (f"{OPEN};q=high", OPEN),
        (f"{OPEN.upper()};q=0, {TEXT};version=1.0.0", TEXT),
        ("*/*", TEXT),
        ("text/*;q=0.1, */*;q=0.1", TEXT),
        ("image/png", TEXT),
        ("", TEXT),
        (",;q=0,,", TEXT),
    ],
)
def test_weights_of_formats_are_heeded(accept: str, media: str) -> None:
    response = Client().get("/metrics", headers={"Accept": accept})
    assert response.headers["content-type"].startswith(f"{media}; version=")
