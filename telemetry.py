"""Traces and metrics for an OpenTelemetry collector, without anything that a user has sent."""

import logging
import os
import threading
import time
from collections.abc import Iterable, Sequence

from fastapi.telemetry import TelemetryConfig
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode, format_trace_id, get_current_span

import logs
import timing
from pool import SessionPool

CLOSE_TIMEOUT = 1.0
"""Seconds in which the last telemetry is sent before the service ends."""
REPORT_INTERVAL = 60.0
NAME = "todo-backend"
SENT = {
    *("http.request.method", "http.route", "http.response.status_code", "error.type"),
    *("url.scheme", "network.protocol.version", "db.system.name", "db.operation.name"),
}
"""Attributes of spans. FastAPI's own have the path, with the user's id, and the query too."""
BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Telemetry:
    """What FastAPI measures of requests, and what this service measures of the database.

    The standard `OTEL_*` variables of the environment say where it goes, and how.

    Args:
        version: Of the service.
        environment: The deployment's name.

    """

    def __init__(self, version: str, environment: str) -> None:
        resource = Resource(
            {
                "service.name": NAME,
                "service.version": version,
                "service.instance.id": os.urandom(16).hex(),  # or workers would be mixed up
                "deployment.environment.name": environment,
            }
        ).merge(OTELResourceDetector().detect())
        self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        if _is_sent("TRACES"):
            self._traces.add_span_processor(BatchSpanProcessor(_Exporter()))
        readers = (
            [PeriodicExportingMetricReader(OTLPMetricExporter())] if _is_sent("METRICS") else []
        )
        self._metrics = MeterProvider(readers, resource, shutdown_on_exit=False)
        for name in ("trace_exporter", "metric_exporter"):
            exporter = logging.getLogger(f"opentelemetry.exporter.otlp.proto.http.{name}")
            exporter.addFilter(_OnceAMinute())
        self.for_fastapi = TelemetryConfig(
            tracer_provider=self._traces,
            meter_provider=self._metrics,
            tracing=_is_sent("TRACES"),
            metrics=_is_sent("METRICS"),
            logs=False,  # they have the messages of exceptions
            operation_spans=False,
            auto_configure=False,  # it would wait for a collector that is away
        )

    def observe(self, pool: SessionPool) -> None:
        """Measure the use of the pool, waits for its connections, and statements."""
        timing.listeners.append(_Listener(self._traces, self._metrics, pool))
        logs.suffixes.append(_trace_id)

    def close(self) -> None:
        """Send the rest, but do not wait for a collector that does not answer."""
        closing = threading.Thread(target=self._close, daemon=True)
        closing.start()
        closing.join(CLOSE_TIMEOUT)

    def _close(self) -> None:
        metrics = threading.Thread(target=self._metrics.shutdown, daemon=True)
        metrics.start()
        self._traces.shutdown()
        metrics.join()


class _Exporter(OTLPSpanExporter):
    """Sends of each span what is allowed."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return super().export([_without_values(span) for span in spans])


def _without_values(span: ReadableSpan) -> ReadableSpan:
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes={name: value for name, value in (span.attributes or {}).items() if name in SENT},
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


class _Listener:
    """Measures what requests spend on the database."""

    def __init__(self, traces: TracerProvider, metrics: MeterProvider, pool: SessionPool) -> None:
        self._pool = pool
        self._tracer = traces.get_tracer(NAME)
        meter = metrics.get_meter(NAME)
        self._waits = meter.create_histogram(
            "db.client.connection.wait_time",
            "s",
            "Time that requests waited for a connection of the pool.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self._statements = meter.create_histogram(
            "db.client.operation.duration",
            "s",
            "Duration of statements.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        meter.create_observable_up_down_counter(
            "db.client.connection.count",
            [self._connections],
            "{connection}",
            "Connections of the pool, in use and idle.",
        )

    def _connections(self, _options: CallbackOptions) -> Iterable[Observation]:
        yield Observation(self._pool.in_use, {"db.client.connection.state": "used"})
        yield Observation(self._pool.idle, {"db.client.connection.state": "idle"})

    def waited(self, pool: object, seconds: float) -> None:
        """Measure a wait for a connection."""
        if pool is self._pool:
            self._waits.record(seconds)

    def executed(self, statement: str, began: int, failed: bool) -> None:  # noqa: FBT001
        """Measure a statement, and make a span of it."""
        operation = statement.split(None, 1)[0].upper()
        attributes = {"db.system.name": "postgresql", "db.operation.name": operation}
        ended = time.time_ns()
        # Those of migrations and the health check belong to no request.
        if get_current_span().is_recording():
            span = self._tracer.start_span(
                operation, kind=SpanKind.CLIENT, attributes=attributes, start_time=began
            )
            if failed:
                span.set_status(StatusCode.ERROR)
            span.end(ended)
        if failed:
            attributes["error.type"] = "_OTHER"
        self._statements.record((ended - began) / 1e9, attributes)


def _is_sent(signal: str) -> bool:
    """Tell whether the environment asks for a signal, as the specification says."""
    exporter = os.environ.get(f"OTEL_{signal}_EXPORTER", "").strip() or "otlp"
    endpoints = (f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return exporter == "otlp" and any(os.environ.get(name) for name in endpoints)


def _trace_id() -> str:
    context = get_current_span().get_span_context()
    return f" trace_id={format_trace_id(context.trace_id)}" if context.is_valid else ""


class _OnceAMinute(logging.Filter):
    """Lets one line a minute pass, of the many about a collector that is away."""

    def __init__(self) -> None:
        super().__init__()
        self._silent_until = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if record.levelno < logging.ERROR or now < self._silent_until:
            return False
        self._silent_until = now + REPORT_INTERVAL
        return True
