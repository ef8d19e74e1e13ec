"""What others are told of the service: Sentry its errors, a collector its telemetry.

Neither gets anything that users sent or have.
"""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi.telemetry import TelemetryConfig

import errors
from config import Settings
from logs import request_context

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

    from telemetry import Telemetry

FLUSH_TIMEOUT = 1.0
"""Seconds in which the last events are sent before the service ends."""
SENT = (
    *("event_id", "timestamp", "platform", "level", "sdk"),
    *("release", "environment", "transaction", "tags"),
)
NO_TELEMETRY = TelemetryConfig(tracing=False, metrics=False, logs=False, auto_configure=False)
ENDPOINTS = (
    *("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)
SENT_OF_A_FRAME = ("filename", "module", "function", "lineno", "in_app")

logger = logging.getLogger(__name__)


def start(settings: Settings, release: str) -> None:
    """Send an event for each error that is reported from now on, if there is a DSN."""
    if not settings.sentry_dsn:
        return
    import sentry_sdk  # noqa: PLC0415  # the extra `sentry`

    sentry_sdk.init(
        dsn=settings.sentry_dsn.get_secret_value(),
        release=release,
        environment=settings.environment,
        before_send=_without_values,
        # Nothing is hooked into the service, and nothing else is sent than what it reports.
        default_integrations=False,
        auto_enabling_integrations=False,
        include_local_variables=False,
        include_source_context=False,
        max_breadcrumbs=0,
        auto_session_tracking=False,
        send_client_reports=False,
        traces_sample_rate=None,
        project_root=str(Path(__file__).parent),
        server_name="",
        debug=False,
        spotlight=False,
    )
    errors.reporters.append(_report)


def close() -> None:
    """Send the last events, within a limit."""
    if _report in errors.reporters:
        import sentry_sdk  # noqa: PLC0415

        errors.reporters.remove(_report)
        sentry_sdk.get_client().close(FLUSH_TIMEOUT)


def start_telemetry(version: str, environment: str) -> "Telemetry | None":
    """Return what measures the service, if the environment names a collector."""
    named = [name for name in ENDPOINTS if os.environ.get(name)]
    if not named or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
    if protocol != "http/protobuf":
        logger.warning("No telemetry: OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf")
        return None
    try:
        from telemetry import Telemetry  # noqa: PLC0415  # the extra `telemetry`

        return Telemetry(version, environment)
    except Exception as exc:  # noqa: BLE001  # platforms set these variables for all their services
        reason = type(exc).__name__
        if isinstance(exc, ImportError):
            reason = "it needs uv sync --extra telemetry"
        logger.warning("No telemetry, although %s is set: %s", named[0], reason)
        return None


def _report(exc: Exception, place: str) -> None:
    import sentry_sdk  # noqa: PLC0415

    with sentry_sdk.new_scope() as scope:
        scope.set_transaction_name(place)
        if context := request_context.get():
            scope.set_tag("request_id", context.request_id)
        cause = getattr(exc, "orig", None) or exc
        if sqlstate := getattr(cause, "pgcode", None):
            scope.set_tag("sqlstate", sqlstate)
        scope.capture_exception(exc)


def _without_values(event: "Event", _hint: "Hint") -> "Event":
    """Make the event anew from what may be sent.

    An error's message may hold a title, a row or a part of the database's URL, and new versions of
    the library may add anything.
    """
    whole: dict[str, Any] = dict(event)
    sent: Any = {name: whole[name] for name in SENT if name in whole}
    sent["exception"] = {
        "values": [_exception(each) for each in whole.get("exception", {}).get("values", ())]
    }
    return sent  # type: ignore[no-any-return]  # a TypedDict


def _exception(value: dict[str, Any]) -> dict[str, Any]:
    frames = (value.get("stacktrace") or {}).get("frames", ())
    return {
        "type": value.get("type"),
        "module": value.get("module"),
        "stacktrace": {
            "frames": [
                {name: frame[name] for name in SENT_OF_A_FRAME if name in frame} for frame in frames
            ]
        },
    }
