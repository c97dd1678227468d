"""Traces: one span for a request, below its client's, and one for each stage under it."""

from __future__ import annotations

import builtins
import importlib
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import typer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from app import __version__
from app.cli.startup import check_traces
from app.errors import MissingPackageError
from app.observability import traces
from app.observability.traces import STAGES, Tracing
from app.settings import Settings
from app.types import Timing
from tests.app.fakes import Client

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "mine", "Content-Type": "image/png"}
TIMING = Timing(decode=1.0, queue=0.5, forward=2.0, total=3.5)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What traced applications send."""
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(traces, "OTLPSpanExporter", lambda: exporter)
    return exporter


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    spans = exporter.get_finished_spans()
    assert len({span.name for span in spans}) == len(spans)
    return {span.name: span for span in spans}


def start_end(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


def test_a_request_and_its_stages(sent: InMemorySpanExporter) -> None:
    before = time.time_ns()
    Client(traces=True).post("/v1/predict?stream=camera-7", content=b"x", headers=HEADERS)
    spans = by_name(sent)
    assert set(spans) == {"POST /v1/predict", *STAGES}
    request = spans["POST /v1/predict"]
    assert request.parent is not None
    assert (f"{request.context.trace_id:032x}", f"{request.parent.span_id:016x}") == (TRACE, PARENT)
    assert request.kind == SpanKind.SERVER
    assert dict(request.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/v1/predict",
        "http.response.status_code": 200,
        "renorm.request_id": "mine",
        "renorm.stream": "camera-7",
    }
    assert request.status.status_code == StatusCode.UNSET
    for stage in STAGES:
        assert spans[stage].parent == request.context
    assert before <= start_end(request)[0] < start_end(request)[1] <= time.time_ns()


def test_stages_follow_each_other_for_as_long_as_they_took() -> None:
    exporter = InMemorySpanExporter()
    tracing = Tracing(exporter)
    request = tracing.start([])
    tracing.stages(request, TIMING)
    tracing.finish(request, "POST /", {}, failed=False)
    tracing.close()
    spans = by_name(exporter)
    times = [start_end(spans[stage]) for stage in ("decode", "queue", "forward")]
    assert [end - start for start, end in times] == [1_000_000, 500_000, 2_000_000]
    assert (times[0][1], times[1][1]) == (times[1][0], times[2][0])
    assert spans["POST /"].parent is None


def test_stages_are_those_that_timing_knows() -> None:
    assert set(STAGES) == set(Timing._fields) - {"total"}


def test_a_failure_is_marked(sent: InMemorySpanExporter) -> None:
    client = Client(traces=True)
    client.engine.failure = RuntimeError("broken")
    client.post("/v1/predict", content=b"x", headers=HEADERS)
    (span,) = sent.get_finished_spans()
    assert span.status.status_code == StatusCode.ERROR
    assert (span.attributes or {})["http.response.status_code"] == 500


def test_a_refusal_is_no_failure_of_the_server(sent: InMemorySpanExporter) -> None:
    Client(traces=True).get("/v1/streams/camera-404")
    assert by_name(sent)["GET /v1/streams/{stream}"].status.status_code == StatusCode.UNSET


@pytest.mark.parametrize("path", ["/healthz", "/metrics"])
def test_probes_are_not_traced(sent: InMemorySpanExporter, path: str) -> None:
    Client(traces=True).get(path)
    assert sent.get_finished_spans() == ()


def test_a_client_that_traces_nothing_starts_a_trace(sent: InMemorySpanExporter) -> None:
    Client(traces=True).get("/v1/model", headers={"traceparent": "nonsense"})
    assert by_name(sent)["GET /v1/model"].parent is None


def test_without_the_setting_nothing_is_traced_nor_imported(
    sent: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "app.observability.traces")
    client = Client()
    assert client.get("/v1/model").status_code == 200
    assert "app.observability.traces" not in sys.modules
    assert sent.get_finished_spans() == ()


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where the extra is not installed."""
    original = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return original(name, *rest, **more)

    monkeypatch.delitem(sys.modules, "app.observability.traces")
    monkeypatch.delattr("app.observability.traces")
    monkeypatch.setattr(builtins, "__import__", without)
    yield
    monkeypatch.undo()
    assert importlib.import_module("app.observability.traces") is traces


def test_the_command_says_what_is_missing(not_installed: None, capsys: pytest.CaptureFixture[str]) -> None:
    check_traces(Settings())
    with pytest.raises(typer.Exit) as ended:
        check_traces(Settings(traces=True))
    assert ended.value.exit_code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"renorm: traces need the package 'opentelemetry\S*', which is not installed; .*", line)
    assert "pip install 'renorm[traces]'" in line


def test_a_missing_package_is_said_at_the_start(not_installed: None) -> None:
    with pytest.raises(MissingPackageError, match=r"'opentelemetry.*', which is not installed") as caught:
        Client(traces=True).get("/healthz")
    assert "pip install 'renorm[traces]'" in caught.value.hint


class Receiver(HTTPServer):
    """What takes traces in: OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.taken: list[tuple[str, ExportTraceServiceRequest]] = []


class _Taking(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that takes what comes."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def test_spans_arrive_where_the_variables_say(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{receiver.server_port}")
    Client(traces=True).post("/v1/predict?stream=camera-7", content=b"x", headers=HEADERS)
    ((path, taken),) = receiver.taken
    (resource,) = taken.resource_spans
    said = {one.key: one.value.string_value for one in resource.resource.attributes}
    names = [span.name for scope in resource.scope_spans for span in scope.spans]
    assert path == "/v1/traces"
    assert (said["service.name"], said["service.version"]) == ("renorm", __version__)
    assert names == [*STAGES, "POST /v1/predict"]


def test_the_name_of_the_service_is_the_operators(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{receiver.server_port}")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "line-3")
    Client(traces=True).get("/v1/model")
    ((_, taken),) = receiver.taken
    said = {one.key: one.value.string_value for one in taken.resource_spans[0].resource.attributes}
    assert said["service.name"] == "line-3"


def test_spans_that_nobody_takes_do_not_keep_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, called = threading.Event(), threading.Event()

    class Stuck(InMemorySpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            called.set()
            taken.wait(10)
            return SpanExportResult.FAILURE

    monkeypatch.setattr(traces, "OTLPSpanExporter", Stuck)
    monkeypatch.setattr(traces, "FLUSH_TIMEOUT_S", 0.2)
    started = time.monotonic()
    assert Client(traces=True).get("/v1/model").status_code == 200
    assert 0.2 <= time.monotonic() - started < 5
    assert called.is_set()
    taken.set()


def test_missing_collector_of_traces_is_a_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Receiver() as gone:
        port = gone.server_port
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.1")
    assert Client(traces=True).get("/v1/model").status_code == 200
    assert "Failed to export" in caplog.text
