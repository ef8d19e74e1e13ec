"""The health check: 200, 503, and never late."""

import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx
import pytest

import database
from support.postgres import connected, waiting_for_locks
from support.service import Service, environment, running, wait_for


def assert_health(response: httpx.Response, status: int, health: str, database: str) -> None:
    body = response.json()
    assert response.status_code == status
    assert body == {"status": health, "database": database, "timestamp": body["timestamp"]}
    assert body["timestamp"].endswith("Z")
    age = datetime.now(UTC) - datetime.fromisoformat(body["timestamp"])
    assert abs(age) < timedelta(minutes=5)


def test_health_with_a_database(service: Service) -> None:
    assert_health(service.client.get("/health"), 200, "healthy", "connected")


def test_health_without_a_database(down: Service) -> None:
    assert_health(down.client.get("/health"), 503, "unhealthy", "disconnected")


@pytest.mark.parametrize("fixture", ["service", "down"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_service_is_alive_whatever_its_database_does(
    request: pytest.FixtureRequest, fixture: str, method: str
) -> None:
    for headers in ({}, {"Authorization": "Bearer nonsense"}):
        client = request.getfixturevalue(fixture).client
        response = client.request(method, "/livez", headers=headers)
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        assert response.content == (b'{"status":"alive"}' if method == "GET" else b"")


@pytest.mark.parametrize(("fixture", "status"), [("service", 200), ("down", 503)])
def test_health_answers_head(request: pytest.FixtureRequest, fixture: str, status: int) -> None:
    response = request.getfixturevalue(fixture).client.head("/health")
    assert (response.status_code, response.content) == (status, b"")


def test_health_needs_no_token_and_ignores_a_bad_one(service: Service) -> None:
    headers = {"Authorization": "Bearer nonsense"}
    assert service.client.get("/health", headers=headers).status_code == 200


def test_health_is_in_time_when_the_database_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://u:p@127.0.0.1:{silent.getsockname()[1]}/x?connect_timeout=600"
        with running(environment(url)) as service, ThreadPoolExecutor(5) as threads:
            calls = [threads.submit(service.client.get, "/health") for _ in range(5)]
            assert {call.result().status_code for call in calls} == {503}
    # A platform's monitor gives up after three seconds.
    assert database.HEALTH_TIMEOUT < 3


def test_health_does_not_wait_behind_the_api(database_url: str) -> None:
    with running(environment(database_url, DB_POOL_SIZE="2")) as service:
        user = service.user()
        task = user.create()
        with connected(database_url) as cursor, ThreadPoolExecutor(8) as threads:
            cursor.execute("BEGIN; LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
            waiting = [threads.submit(user.call, "GET") for _ in range(8)]
            wait_for(lambda: waiting_for_locks(cursor) == 2)
            assert service.client.get("/health").status_code == 200
            assert not any(call.done() for call in waiting)
            cursor.execute("ROLLBACK")
            assert [call.result().json()["tasks"] for call in waiting] == [[task]] * 8
