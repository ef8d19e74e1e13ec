"""The log: one format, the reasons, nothing forged, nothing secret."""

import io
import logging
import os
import re
import socket
import subprocess
import sys
from functools import partial
from urllib.parse import urlsplit

import httpx
import pytest

import logs
from logs import LineFormatter, LineHandler, log_request
from support.network import free_port
from support.service import (
    LINE,
    PATIENCE,
    PROJECT,
    Service,
    User,
    assert_clean_log,
    environment,
    running,
    wait_for,
)
from support.tokens import encode, signed


def lines_with(service: Service, text: str) -> list[str]:
    """Return the lines with a text, except those at debug."""
    lines = service.output().splitlines()
    return [line for line in lines if text in line and "] [DEBUG] [" not in line]


def request_line(service: Service, request_id: str) -> str:
    """Return the request's own line, which comes after its answer."""
    pattern = re.compile(rf"\[\d+ in [\d.]+ ms request_id={request_id}\]$")
    found: list[str] = wait_for(
        lambda: [line for line in service.output().splitlines() if pattern.search(line)]
    )
    assert len(found) == 1
    assert LINE.fullmatch(found[0])
    return found[0]


def fields(line: str) -> list[str]:
    return line[1:-1].split("] [", 4)


def test_a_request_is_one_line_with_status_and_duration(service: Service, user: User) -> None:
    response = user.call("POST", json={"title": "x"})
    line = request_line(service, response.headers["x-request-id"])
    _, level, user_id, endpoint, message = fields(line)
    assert (level, user_id, endpoint) == ("INFO", user.id, f"POST {user.path}")
    assert message.startswith("201 in ")
    assert lines_with(service, response.headers["x-request-id"]) == [line]


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        ("", "no bearer token"),
        ("Bearer abc", "malformed token"),
        (f"Bearer {signed({'alg': 'dir'})}.four.five", "malformed token"),
        (f"Bearer {signed()}=", "malformed token"),
        (f"Bearer {signed(exp=1)}", "token expired"),
        (f"Bearer {signed(exp=...)}", "exp is missing or not a number"),
        (f"Bearer {signed(secret='x' * 40)}", "wrong signature"),
        (f"Bearer {signed({'alg': 'none'})}", "algorithm other than HS256"),
        (f"Bearer {signed(sub=...)}", "sub is missing or not a string of 1 to 255 characters"),
        (f"Bearer {signed(iat='x')}", "iat is not a number"),
        (f"Bearer {signed(nbf=9999999999)}", "nbf is in the future"),
        (f"Bearer {signed({'crit': ['x']})}", "critical extension in the header"),
    ],
)
def test_every_401_is_logged_with_its_reason(
    service: Service, authorization: str, reason: str
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    response = service.client.get("/api/user_123/tasks", headers=headers)
    line, answer = wait_for(
        lambda: len(found := lines_with(service, response.headers["x-request-id"])) == 2 and found
    )
    assert fields(line)[1:4] == ["WARNING", "-", "GET /api/user_123/tasks"]
    assert f"Invalid or expired authentication token: {reason} request_id=" in line
    assert "[401 in " in answer


def test_every_403_is_logged_with_its_reason(service: Service, user: User, stranger: User) -> None:
    task = stranger.create()
    foreign_task = user.call("GET", f"/{task['id']}")
    foreign_path = service.client.get(stranger.path, headers=user.headers)
    for response, reason in (
        (foreign_task, f"Access denied: task belongs to another user: task {task['id']}"),
        (foreign_path, "Access denied: user_id mismatch: the path names another user"),
    ):
        line = lines_with(service, response.headers["x-request-id"])[0]
        assert fields(line)[1:3] == ["WARNING", user.id]
        assert reason in line


def test_a_500_is_logged_with_its_traceback_once_a_minute() -> None:
    url = "postgresql://someone:database-canary@127.0.0.1:1/nowhere"
    with running(environment(url)) as down:
        users = [down.user() for _ in range(3)]
        for user in users:
            request_line(down, user.call("GET").headers["x-request-id"])
        output = down.output()
    assert_clean_log(output, url, "database-canary")
    first, *others = [
        [line for line in output.splitlines() if f"[{user.id}]" in line and "[DEBUG]" not in line]
        for user in users
    ]
    assert all(fields(line)[3] == f"GET {users[0].path}" for line in first)
    assert [line for line in first if "[Traceback (most recent call last):]" in line] != []
    assert any("connection.py" in line for line in first)
    assert any("OperationalError" in line and "Connection refused" in line for line in first)
    assert not any("The above exception was" in line for line in first)
    assert {fields(line)[1] for line in first} == {"ERROR", "INFO"}
    for times, lines in enumerate(others, 1):
        assert len(lines) == 2
        message = f"Internal server error: OperationalError, {times} times since its traceback"
        assert f"[{message} request_id=" in lines[0]


def test_nothing_that_a_client_sends_forges_a_line(service: Service) -> None:
    forged = "[2026-01-01T00:00:00.000Z] [INFO] [admin] [GET /] [forged]"
    user = service.user(f"x\r\n{forged}\n\x1b[31m\u2028\u202e\x85] [y")
    user.call("GET")
    encoded = "%0D%0A" + forged.replace(" ", "%20")
    response = service.client.get(f"/{encoded}", headers={"X-Request-ID": forged})
    line = request_line(service, response.headers["x-request-id"])
    assert fields(line)[2] == "-"
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as connection:
        connection.sendall(f"GET /[x]]\x7f HTTP/1.1\r\nHost: x\r\n\r\n{forged}\r\n".encode())
        connection.recv(1000)
    assert forged not in service.output()
    assert not any("] [admin] [" in line for line in service.output().splitlines())


def test_a_message_of_several_lines_is_one_line_and_a_traceback_is_many() -> None:
    exception = ValueError("first\nsecond\x1b[31m\ud800 eyJhbGciOiJIUzI1NiJ9.e30.x")
    exc_info = (ValueError, exception, None)
    arguments = ("a\r\nb\u2028c",)
    record = logging.LogRecord("name", logging.ERROR, "path", 1, "%s", arguments, exc_info)
    message, *traceback = LineFormatter().format(record).split("\n")
    assert message.endswith(r"[ERROR] [-] [-] [a\x0d\x0ab\u2028c]")
    assert all(LINE.fullmatch(line) for line in traceback)
    assert traceback[-2].endswith("[ValueError: first]")
    assert traceback[-1].endswith(r"[second\x1b[31m\ud800 (token)]")


def test_whoever_else_listens_gets_the_requests_lines_too(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = LineHandler(io.StringIO())
    handler.setFormatter(LineFormatter())
    other = logging.StreamHandler(io.StringIO())
    logger = logging.getLogger("a_request_log")
    monkeypatch.setattr(logger, "level", logging.INFO)
    for handlers in ([handler], [handler, other]):
        monkeypatch.setattr(logging.root, "handlers", handlers)
        log_request(logger, "200 in 1.0 ms")
    monkeypatch.setattr(logging.root, "handlers", [handler])
    logger.addFilter(lambda record: "500" in record.getMessage())
    for message in ("200 in 2.0 ms", "500 in 3.0 ms"):
        log_request(logger, message)
    lines = handler.stream.getvalue().splitlines()
    assert all(LINE.fullmatch(line) for line in lines)
    messages = [line.rpartition("[")[2].rstrip("]") for line in lines]
    assert messages == ["200 in 1.0 ms", "200 in 1.0 ms", "500 in 3.0 ms"]
    assert other.stream.getvalue() == "200 in 1.0 ms\n"


def test_a_request_succeeds_although_nobody_reads_the_log(database_url: str) -> None:
    reader, writer = os.pipe()
    env = environment(database_url, PORT=str(free_port()))
    service = subprocess.Popen([sys.executable, "main.py"], cwd=PROJECT, env=env, stderr=writer)
    os.close(writer)
    try:
        url = f"http://127.0.0.1:{env['PORT']}/livez"
        wait_for(partial(answers, url))
        os.close(reader)
        for _ in range(3):
            with httpx.Client() as client:
                assert [client.get(url).status_code for _ in range(2)] == [200, 200]
    finally:
        service.kill()
        service.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def test_a_token_in_a_path_or_query_is_not_logged(service: Service) -> None:
    path_canary = encode(b"a-canary-in-the-path")
    query_canary = encode(b"a-canary-in-the-query")
    token = f"eyJhbGciOiJIUzI1NiJ9.{path_canary}.{path_canary}"
    response = service.client.get(f"/api/{token}/tasks", params={"token": query_canary})
    assert "(token)" in request_line(service, response.headers["x-request-id"])
    assert path_canary not in service.output()
    assert query_canary not in service.output()


@pytest.mark.parametrize("letters", ["eyJ", "eyJ.", "eyJ-a.", "[", "x]", " "])
def test_a_line_takes_no_longer_than_its_length(letters: str) -> None:
    """With a pattern that starts anew at each letter, three megabytes take an hour."""
    code = f"""
import logging, logs
text = {letters!r} * (3_000_000 // len({letters!r}))
logs.request_context.set(logs.RequestContext("GET /" + text, "id", text[:255]))
record = logging.LogRecord("name", logging.INFO, "path", 1, "%s", (text,), None)
print(logs.LineFormatter().format(record)[:2000])
"""
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, cwd=PROJECT, capture_output=True, timeout=60, check=True)
    assert b"eyJ" not in printed.stdout
    assert len(printed.stdout.split(b"] [")[3]) <= logs.MAX_ENDPOINT_LENGTH * 3


@pytest.mark.parametrize("cut", range(285, 301))
def test_a_token_that_is_cut_is_not_logged(service: Service, cut: int) -> None:
    path = f"/{'x' * (cut - len('GET /'))}{signed()}"
    line = request_line(service, service.client.get(path).headers["x-request-id"])
    assert "(token)" in line or cut > 297
    assert "eyJ" not in line


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_every_line_of_python_main_has_the_format(database_url: str, workers: str) -> None:
    env = environment(database_url, LOG_LEVEL="info", WEB_CONCURRENCY=workers)
    with running(env, program=("main.py",)) as service:
        wait_for(lambda: service.output().count("Application startup complete") == int(workers))
        service.stop()
        output = service.output()
    assert f", workers: {workers}]" in output
    assert f", workers: {workers}, connections of each: 5 + 0, database: " in output
    assert ", environment test, " in output
    assert_clean_log(output, database_url)


@pytest.mark.parametrize(
    ("level", "shown"),
    [("WARNING", {"WARNING"}), ("error", set())],
)
def test_the_log_level_is_obeyed(database_url: str, level: str, shown: set[str]) -> None:
    with running(environment(database_url, LOG_LEVEL=level)) as service:
        service.client.get("/api/u/tasks")
        service.stop()
        levels = {fields(line)[1] for line in service.output().splitlines()}
    assert levels == shown
