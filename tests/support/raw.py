"""Connections on which a test sends exactly the bytes that it wants to."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from support.service import Service, User, wait_for

TASK = b'{"title": "Buy groceries"}'
CHUNKED = b"".join(b"1\r\n%c\r\n" % byte for byte in TASK) + b"0\r\n\r\n"
INVALID = {"detail": "Invalid HTTP request", "code": "VALIDATION_ERROR"}


@dataclass(frozen=True)
class Answer:
    """An answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes


@contextmanager
def connected_to(service: Service, receive_buffer: int = 0) -> Iterator[socket.socket]:
    address = urlsplit(service.url)
    with socket.socket() as connection:
        connection.settimeout(60)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.connect((address.hostname, address.port))
        yield connection


class Raw:
    """Reads answers from a connection, one after the other, each exactly to its end."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rb")

    def answer(self) -> Answer | None:
        """Return the next answer, or None if the connection is closed instead."""
        try:
            status_line = self._file.readline()
            lines = list(iter(self._file.readline, b"\r\n" if status_line else b""))
            headers = dict(line.decode().strip().split(": ", 1) for line in lines)
            body = self._file.read(int(headers.get("content-length", 0)))
        except ConnectionResetError:
            return None
        return Answer(int(status_line.split()[1]), headers, body) if status_line else None

    def answers(self) -> list[Answer]:
        """Return all that come until the connection is closed."""
        return list(iter(self.answer, None))


def exchanged(service: Service, *segments: bytes) -> list[Answer]:
    """Send the segments and return the answers until the service closes the connection."""
    with connected_to(service) as connection:
        for segment in segments:
            connection.sendall(segment)
        return Raw(connection).answers()


def request(user: User, method: str, path: str, *lines: str, body: bytes = b"") -> bytes:
    """Return a request's bytes, with a valid token; its framing is the caller's."""
    lines = (
        f"{method} {path} HTTP/1.1",
        "Host: x",
        f"Authorization: {user.headers['Authorization']}",
        "Content-Type: application/json",
        *lines,
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def posted(user: User, *lines: str, body: bytes = TASK) -> bytes:
    return request(user, "POST", user.path, *lines, body=body)


def statuses(answers: list[Answer]) -> list[int]:
    return [answer.status for answer in answers]


def assert_refused(answer: Answer, status: int, code: str, service: Service) -> None:
    """It has the common body, every answer's headers, and a log line with its id."""
    assert answer.status == status
    assert json.loads(answer.body)["code"] == code
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["vary"] == "Authorization, Origin"
    line = rf"\] \[{status} in [\d.]+ ms request_id={answer.headers['x-request-id']}\]"
    wait_for(lambda: re.search(line, service.output()))
