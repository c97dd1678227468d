"""OpenTelemetry traces of requests: an extra, imported only where traces are enabled.

Their destination is set by the ``OTEL_*`` variables that every OpenTelemetry program reads, such as
``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_SERVICE_NAME`` and ``OTEL_TRACES_SAMPLER``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping

from app import __version__
from app.errors import MissingPackageError
from app.types import Timing

try:
    from opentelemetry import propagate, trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode
except ModuleNotFoundError as missing:
    raise MissingPackageError(
        f"traces need the package '{missing.name}', which is not installed",
        hint="pip install 'renorm[traces]', or start without --traces",
    ) from missing

STAGES = tuple(stage for stage in Timing._fields if stage != "total")
"""The child spans of a request, in chronological order."""

FLUSH_TIMEOUT_S = 3.0
"""Seconds to export the last spans when the server ends."""


class Tracing:
    """Creates spans and exports them in a background thread until it is closed.

    ``exporter`` is their destination; by default OTLP over HTTP to the endpoint in the variables.

    Raises:
        MissingPackageError: when this module is imported and OpenTelemetry is not installed.
    """

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("renorm", __version__)

    def start(self, headers: Iterable[tuple[bytes, bytes]]) -> Span:
        """Start the span of an arriving request, a child of the client's span if the ``headers`` name one."""
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        return self._tracer.start_span("request", propagate.extract(carrier), SpanKind.SERVER)

    def stages(self, request: Span, timing: Timing) -> None:
        """Record the spans of a request's stages, one after the other, of which the last has just ended."""
        context = trace.set_span_in_context(request)
        start = time.time_ns() - _ns(timing.total)
        for stage in STAGES:
            end = start + _ns(getattr(timing, stage))
            self._tracer.start_span(stage, context, start_time=start).end(end)
            start = end

    def finish(self, request: Span, name: str, attributes: Mapping[str, str | int], *, failed: bool) -> None:
        """End a request's span."""
        request.update_name(name)
        request.set_attributes(dict(attributes))
        if failed:
            request.set_status(Status(StatusCode.ERROR))
        request.end()

    def close(self) -> None:
        """Export the remaining spans within `FLUSH_TIMEOUT_S`, and end."""
        # The SDK retries for half a minute where no collector answers, longer than servers get to end.
        ending = threading.Thread(target=self._provider.shutdown, name="renorm-traces", daemon=True)
        ending.start()
        ending.join(FLUSH_TIMEOUT_S)


def _resource() -> Resource:
    """Return the resource of all spans: our defaults, overridden by the variables."""
    default = Resource.create({"service.name": "renorm", "service.version": __version__})
    return default.merge(OTELResourceDetector().detect())


def _ns(milliseconds: float) -> int:
    return round(1_000_000 * milliseconds)
