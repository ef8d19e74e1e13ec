"""Errors outside the task logic, each in the one body shape, and CORS on all of them."""

import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from support.service import ORIGIN, PATIENCE, Service, User, wait_for

SERVER_ERROR = {"detail": "Internal server error", "code": "SERVER_ERROR"}
TOO_LARGE = {"detail": "Request body must be at most 64 KiB", "code": "PAYLOAD_TOO_LARGE"}
CALLS = [
    ("GET", "", None),
    ("POST", "", {"title": "x"}),
    ("GET", "/1", None),
    ("PUT", "/1", {"title": "x"}),
    ("PUT", "/1", {}),
    ("DELETE", "/1", None),
    ("PATCH", "/1/complete", None),
]


# --- unknown paths and methods ---


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/nope", "/api", "/api/", "/api/u", "/api/u/", "/api/u/tasks/", "/api//tasks"),
        *("/api/u/tasks/1/", "/api/u/tasks/1/complete/", "/api/u/tasks/1/finish", "/health/"),
        *("/api/u/tasks%0A", "/api/u/tasks%2F", "/API/u/tasks", "/api/u/Tasks", "/redoc", "//"),
        *("/api/a/b/tasks", "/%00", "/static-offline-docs/../main.py"),
        *("/docs/", "/.env", "/%2e%2e/.env"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_unknown_path_is_not_found(user: User, method: str, path: str) -> None:
    for headers in ({}, user.headers):
        response = user.client.request(method, path, headers=headers)
        assert response.status_code == 404
        assert response.json() == {"detail": "Not found", "code": "NOT_FOUND"}
        assert "location" not in response.headers


@pytest.mark.parametrize("path", ["x", "%2e%2e/%2e%2e/config.py", "..%2f..%2fconfig.py"])
def test_the_assets_of_the_documentation_are_nothing_else(service: Service, path: str) -> None:
    assert service.client.get(f"/static-offline-docs/{path}").status_code == 404


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/health", "GET, HEAD"),
        ("/livez", "GET, HEAD"),
        ("/api/u/tasks", "DELETE, GET, HEAD, PATCH, POST"),
        ("/api/u/tasks/1", "DELETE, GET, HEAD, PUT"),
        ("/api/u/tasks/1/complete", "PATCH"),
        ("/docs", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
        ("/static-offline-docs/swagger-ui.css", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(user: User, path: str, allowed: str) -> None:
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - set(
        allowed.split(", ")
    ):
        response = user.client.request(method, path, headers=user.headers)
        assert response.status_code == 405, method
        assert response.headers["allow"] == allowed
        if method != "HEAD":
            assert response.json() == {"detail": "Method not allowed", "code": "METHOD_NOT_ALLOWED"}


# --- large bodies ---


def chunks(size: int) -> Iterator[bytes]:
    yield from [b" " * 1000] * (size // 1000)
    yield b" " * (size % 1000)


@pytest.mark.parametrize(("method", "path", "_body"), CALLS)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_64_kib_is_too_large(
    user: User,
    method: str,
    path: str,
    _body: object,
    chunked: bool,  # noqa: FBT001
) -> None:
    size = 64 * 1024 + 1
    response = user.call(method, path, content=chunks(size) if chunked else b" " * size)
    assert (response.status_code, response.json()) == (413, TOO_LARGE)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_64_kib_is_accepted(user: User, chunked: bool) -> None:  # noqa: FBT001
    body = json.dumps({"title": "x"}).encode()
    body += b" " * (64 * 1024 - len(body))
    content = iter([body[:1000], body[1000:]]) if chunked else body
    response = user.call("POST", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 201


def test_a_large_body_is_refused_before_it_is_sent(user: User) -> None:
    address = urlsplit(str(user.client.base_url))
    head = (
        f"POST {user.path} HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n"
        f"Expect: 100-continue\r\nAuthorization: {user.headers['Authorization']}\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_a_connection_survives_a_refused_body(user: User) -> None:
    for size in (70_000, 1_000_000):
        assert user.call("POST", content=b"x" * size).status_code == 413
        assert user.list() == []


def test_a_client_that_goes_away_is_no_server_error(user: User, service: Service) -> None:
    address = urlsplit(service.url)
    head = (
        f"POST {user.path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
        f"Authorization: {user.headers['Authorization']}\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as connection:
        connection.sendall(head.encode() + b'{"title": ')
    lines = wait_for(
        lambda: [
            line
            for line in service.output().splitlines()
            if f"[{user.id}]" in line and "] [DEBUG] [" not in line
        ]
    )
    assert len(lines) == 1
    assert "[400 in " in lines[0]
    assert user.list() == []


# --- the database is away ---


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_every_endpoint_is_500_without_a_database(
    down: Service, method: str, path: str, body: object
) -> None:
    response = down.user().call(method, path, json=body, headers={"Origin": ORIGIN})
    assert (response.status_code, response.json()) == (500, SERVER_ERROR)
    assert response.headers["content-type"] == "application/json"
    assert_readable_by(response, ORIGIN)


# --- CORS, from a browser's point of view ---


def assert_readable_by(response: httpx.Response, origin: str) -> None:
    assert response.headers["access-control-allow-origin"] == origin
    assert response.headers["access-control-allow-credentials"] == "true"
    assert "Origin" in response.headers["vary"]
    exposed = response.headers["access-control-expose-headers"].split(", ")
    assert set(exposed) >= {
        *("Allow", "ETag", "Idempotency-Replayed", "Link", "Retry-After", "WWW-Authenticate"),
        "X-Request-ID",
    }


ASKED_HEADERS = {"authorization", "content-type", "if-match", "if-none-match", "idempotency-key"}


@pytest.mark.parametrize("origin", [ORIGIN, "https://app.example.com"])
@pytest.mark.parametrize(("method", "path", "_body"), [*CALLS, ("HEAD", "", None)])
def test_a_preflight_is_answered(
    service: Service, origin: str, method: str, path: str, _body: object
) -> None:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": ",".join(ASKED_HEADERS),
    }
    response = service.client.options(f"/api/user_123/tasks{path}", headers=headers)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == origin
    assert response.headers["access-control-allow-credentials"] == "true"
    assert method in response.headers["access-control-allow-methods"].split(", ")
    allowed = response.headers["access-control-allow-headers"].lower().split(", ")
    assert set(allowed) >= ASKED_HEADERS


@pytest.mark.parametrize(
    "origin",
    [
        *("https://evil.example.com", "http://localhost:3001", "https://localhost:3000", "null"),
        *("http://localhost:3000.evil.com", "https://app.example.com.evil.com"),
    ],
)
def test_another_origin_gets_no_access(service: Service, origin: str) -> None:
    preflight = service.client.options(
        "/api/user_123/tasks", headers={"Origin": origin, "Access-Control-Request-Method": "GET"}
    )
    response = service.client.get("/health", headers={"Origin": origin})
    for answer in (preflight, response):
        assert "access-control-allow-origin" not in answer.headers
    assert preflight.status_code == 400
    assert preflight.json() == {"detail": "Disallowed CORS origin", "code": "VALIDATION_ERROR"}


def test_every_kind_of_answer_is_readable_by_a_page(user: User, stranger: User) -> None:
    origin = {"Origin": ORIGIN}
    foreign = f"/{stranger.create()['id']}"
    answers = {
        200: user.call("GET", headers=origin),
        201: user.call("POST", json={"title": "x"}, headers=origin),
        400: user.call("POST", json={}, headers=origin),
        401: user.client.get(user.path, headers=origin),
        403: user.call("GET", foreign, headers=origin),
        404: user.call("GET", "/0", headers=origin),
        405: user.call("PUT", headers=origin),
        413: user.call("POST", content=b"x" * 100_000, headers=origin),
    }
    for status, response in answers.items():
        assert response.status_code == status
        assert_readable_by(response, ORIGIN)


def test_an_answer_has_a_request_id(service: Service) -> None:
    first, second = (service.client.get("/health").headers["x-request-id"] for _ in range(2))
    assert first != second
    sent = {"X-Request-ID": "proxy-id_1.2"}
    assert service.client.get("/health", headers=sent).headers["x-request-id"] == "proxy-id_1.2"
    for bad in ("x" * 65, "a b", "[x]", ""):
        answered = service.client.get("/health", headers={"X-Request-ID": bad})
        assert answered.headers["x-request-id"] != bad
