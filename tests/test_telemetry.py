"""Traces and metrics reach a collector, without paths, queries and values."""

import re
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import make_url

from support.collector import Collector, attributes, collector
from support.service import (
    PATIENCE,
    PROJECT,
    Service,
    assert_clean_log,
    environment,
    patient,
    running,
)
from support.tokens import SECRET

CANARIES = ("title-canary", "description-canary", "user-canary", "query-canary", "header-canary")
SPAN = {
    *("http.request.method", "http.route", "http.response.status_code", "error.type"),
    *("url.scheme", "network.protocol.version", "db.system.name", "db.operation.name"),
}
PATIENT_EXPORT = patient("telemetry.CLOSE_TIMEOUT")
"""The service, but a busy machine does not cut off what it sends at its end."""


@pytest.fixture
def otlp() -> Iterator[Collector]:
    with collector() as server:
        yield server


def statuses(spans: list[Any]) -> list[tuple[str, int]]:
    return [
        (span.name, attributes(span)["http.response.status_code"])
        for span in spans
        if "http.response.status_code" in attributes(span)
    ]


def use(service: Service) -> dict[str, str]:
    """Make requests; return their trace ids, sent as `traceparent`, by the request ids."""
    user = service.user(f"user-canary/{uuid.uuid4().hex}")
    trace_ids = {}

    def call(method: str, path: str, status: int, **kwargs: Any) -> Any:  # noqa: ANN401
        trace_id = uuid.uuid4().hex
        headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01", "X-Canary": "header-canary"}
        response = user.call(method, path, headers=headers, **kwargs)
        assert response.status_code == status, response.text
        trace_ids[response.headers["x-request-id"]] = trace_id
        return response

    body = {"title": "title-canary", "description": "description-canary"}
    task = call("POST", "?canary=query-canary", 201, json=body).json()
    call("GET", "?status=pending&q=query-canary", 200)
    call("PUT", f"/{task['id']}", 200, json={"title": "title-canary 2"})
    call("GET", "/0?canary=query-canary", 404)
    call("POST", "", 400, json={"title": ""})
    return trace_ids


def test_requests_and_statements_are_traced_without_values(
    database_url: str, otlp: Collector
) -> None:
    env = environment(database_url, OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url)
    with running(env, program=PATIENT_EXPORT) as service:
        trace_ids = use(service)
        service.client.get("/user-canary/query-canary")
        service.client.request("PROPFIND", "/user-canary?canary=query-canary")
        assert service.stop() == 0
        output = service.output()
    assert set(otlp.paths) == {"/v1/traces", "/v1/metrics"}
    url = make_url(database_url)
    for canary in (*CANARIES, "PROPFIND", "eyJ", SECRET, str(url.password), str(url.database)):
        assert canary not in otlp.text, canary
    assert {name for span in otlp.spans for name in attributes(span)} <= SPAN
    for resource in otlp.resources:
        assert re.fullmatch("[0-9a-f]{32}", resource.pop("service.instance.id"))
        assert resource == {
            "service.name": "todo-backend",
            "service.version": "1.0.0",
            "deployment.environment.name": "test",
        }
    template = "/api/{user_id}/tasks"
    expected = [
        (f"POST {template}", 201, ["INSERT"]),
        (f"GET {template}", 200, ["SELECT"]),
        (f"PUT {template}/{{task_id}}", 200, ["UPDATE"]),
        (f"GET {template}/{{task_id}}", 404, ["SELECT", "SELECT"]),
        (f"POST {template}", 400, []),
    ]
    for trace_id, (name, status, operations) in zip(trace_ids.values(), expected, strict=True):
        spans = [span for span in otlp.spans if span.trace_id.hex() == trace_id]
        (request,) = [span for span in spans if span.parent_span_id.hex() == "00f067aa0ba902b7"]
        assert statuses([request]) == [(name, status)]
        children = [span for span in spans if span.parent_span_id == request.span_id]
        assert [span.name for span in children] == operations
        assert len(spans) == 1 + len(children)
        for span in children:
            assert request.start_time_unix_nano <= span.start_time_unix_nano
            assert span.start_time_unix_nano <= span.end_time_unix_nano
            assert span.end_time_unix_nano <= request.end_time_unix_nano
    assert statuses(otlp.spans)[-2:] == [("GET", 404), ("HTTP", 404)]
    for request_id, trace_id in trace_ids.items():
        lines = [line for line in output.splitlines() if f"request_id={request_id}" in line]
        assert lines
        assert all(line.endswith(f"request_id={request_id} trace_id={trace_id}]") for line in lines)
    assert_clean_log(output)


def test_requests_waits_statements_and_the_pool_are_measured(
    database_url: str, otlp: Collector
) -> None:
    env = environment(database_url, OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url)
    with running(env, program=PATIENT_EXPORT) as service:
        use(service)
        assert service.stop() == 0
    durations = otlp.metrics["http.server.request.duration"].histogram.data_points
    counts = {
        (
            attributes(point)["http.request.method"],
            attributes(point)["http.route"],
            attributes(point)["http.response.status_code"],
        ): point.count
        for point in durations
        if attributes(point).get("http.route", "").startswith("/api")
    }
    template = "/api/{user_id}/tasks"
    assert counts == {
        ("POST", template, 201): 1,
        ("GET", template, 200): 1,
        ("PUT", f"{template}/{{task_id}}", 200): 1,
        ("GET", f"{template}/{{task_id}}", 404): 1,
        ("POST", template, 400): 1,
    }
    active = otlp.metrics["http.server.active_requests"].sum.data_points
    assert {point.as_int for point in active} == {0}
    (waits,) = otlp.metrics["db.client.connection.wait_time"].histogram.data_points
    assert waits.count == 4
    statements = otlp.metrics["db.client.operation.duration"].histogram.data_points
    operations = {attributes(each)["db.operation.name"]: each.count for each in statements}
    assert (operations["INSERT"], operations["UPDATE"]) == (1, 1)
    connections = otlp.metrics["db.client.connection.count"].sum.data_points
    states = {attributes(each)["db.client.connection.state"]: each.as_int for each in connections}
    assert states == {"used": 0, "idle": states["idle"]}


def test_a_500_and_its_statement_are_errors(otlp: Collector) -> None:
    env = environment("postgresql://127.0.0.1:1/x", OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url)
    with running(env, program=PATIENT_EXPORT) as service:
        assert service.user().call("GET").status_code == 500
        assert service.stop() == 0
    (span,) = [span for span in otlp.spans if span.name == "GET /api/{user_id}/tasks"]
    assert (span.status.code, span.status.message, list(span.events)) == (2, "", [])
    assert attributes(span)["error.type"] == "500"
    assert "Connection refused" not in otlp.text


def test_the_standard_variables_are_obeyed(database_url: str, otlp: Collector) -> None:
    env = environment(
        database_url,
        OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url,
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
        OTEL_SERVICE_NAME="mine",
        OTEL_RESOURCE_ATTRIBUTES="service.version=7,team=x",
        OTEL_METRICS_EXPORTER="none",
    )
    with running(env, program=PATIENT_EXPORT) as service:
        service.user().create()
        assert service.stop() == 0
    assert set(otlp.paths) == {"/v1/traces"}
    for resource in otlp.resources:
        assert (resource["service.name"], resource["service.version"]) == ("mine", "7")
        assert resource["team"] == "x"


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_it_is_off_if_they_say_so(
    database_url: str, otlp: Collector, variables: dict[str, str]
) -> None:
    env = environment(database_url, OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url, **variables)
    with running(env, program=("main.py",)) as service:
        service.user().create()
        assert service.stop() == 0
        output = service.output()
    assert otlp.paths == []
    assert ("OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf" in output) == (len(variables) == 1
        and "grpc" in variables.values())  # fmt: skip


# --- a collector that does not work ---


@pytest.mark.parametrize("collector_is", ["away", "hanging"])
def test_a_collector_that_is_away_or_hangs_disturbs_nobody(
    database_url: str, collector_is: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hangs:
        port = 1 if collector_is == "away" else hangs.getsockname()[1]
        env = environment(
            database_url,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
            OTEL_BSP_SCHEDULE_DELAY="50",
            OTEL_METRIC_EXPORT_INTERVAL="50",
            OTEL_EXPORTER_OTLP_TIMEOUT="600",  # longer than this test waits for the end
        )
        with running(env, program=("main.py",)) as service:
            user = service.user()
            for _ in range(50):
                user.create()
            assert service.stop() == 0
            output = service.output()
    assert "urllib3" not in output
    assert output.count("Failed to export") <= 2
    assert "Transient error" not in output


# --- without it ---


def imported(**variables: str) -> tuple[str, str]:
    """Start the app; return whether the SDK is imported, and the log."""
    code = "import sys, main; print('opentelemetry.sdk' in sys.modules, 'telemetry' in sys.modules)"
    if variables.pop("without", ""):
        code = "import sys; sys.modules['opentelemetry.sdk'] = None; import main; print('started')"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env=environment("postgresql://h/d", LOG_LEVEL="warning", **variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return ended.stdout.strip(), ended.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"FASTAPI_OTEL_AUTO_CONFIGURE": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4318", "OTEL_SDK_DISABLED": "True"},
    ],
)
def test_without_a_collector_nothing_is_imported(variables: dict[str, str]) -> None:
    assert imported(**variables) == ("False False", "")


def test_a_collector_without_the_packages_is_one_line() -> None:
    shown, log = imported(OTEL_EXPORTER_OTLP_ENDPOINT="http://h:4318", without="yes")
    assert shown == "started"
    (line,) = log.splitlines()
    assert line.endswith(
        "[No telemetry, although OTEL_EXPORTER_OTLP_ENDPOINT is set:"
        " it needs uv sync --extra telemetry]"
    )
