"""What the measurements ask: a table of operations."""

import time
from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from jose import jwt

SECRET = "only-for-benchmarks-0123456789-abcdefghijkl"
CREATE = {"title": "Buy groceries for the week", "description": "Milk, bread and eggs"}
UPDATE = {"title": "Buy groceries for the next week", "completed": True}
COMPLETE_ALL = [{"completed": True}, {"completed": False}]


@dataclass(frozen=True)
class Operation:
    """A request to a user's tasks. Path and headers may hold what `App.requests` fills in.

    `{id}` is one of the user's tasks, `{deletable}` one made to be deleted, `{unique}` a text never
    sent before, `{etag}` what a GET of the same path has as its ETag.
    """

    name: str
    method: str
    path: str = ""
    bodies: Sequence[object] = ()
    """One of them is sent."""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    service_only: bool = False
    """Whether the baseline and the peer do not have it."""

    def has(self, placeholder: str) -> bool:
        """Tell whether the path or a header has the placeholder."""
        return any(placeholder in text for text in (self.path, *self.headers.values()))


@dataclass(frozen=True)
class Request:
    """One request of an operation."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""

    def raw(self) -> bytes:
        """Return what is sent."""
        headers = self.headers | ({"Content-Length": str(len(self.body))} if self.body else {})
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation("get", "GET", "/{id}"),
        Operation("list", "GET"),
        Operation("create", "POST", "", [CREATE], status=201),
        Operation("toggle", "PATCH", "/{id}/complete"),
        Operation("update", "PUT", "/{id}", [UPDATE]),
        Operation("delete", "DELETE", "/{deletable}", status=204),
        Operation("page", "GET", "?limit=20", service_only=True),
        Operation("search", "GET", "?q=groceries", service_only=True),
        Operation(
            "unchanged", "GET", "/{id}", (), {"If-None-Match": "{etag}"}, 304, service_only=True
        ),
        Operation(
            "keyed", "POST", "", [CREATE], {"Idempotency-Key": "{unique}"}, 201, service_only=True
        ),
        Operation("if_match", "PUT", "/{id}", [UPDATE], {"If-Match": "*"}, service_only=True),
        Operation("updated", "GET", "?limit=20&sort=updated", service_only=True),
        Operation("complete_all", "PATCH", "", COMPLETE_ALL, service_only=True),
    )
}


@cache
def token(user_id: str) -> str:
    """Sign a token as Better Auth would."""
    now = int(time.time())
    claims = {"sub": user_id, "email": "user@example.com", "name": "John Doe", "iat": now}
    return jwt.encode(claims | {"exp": now + 24 * 3600}, SECRET, "HS256")


def chosen(text: str) -> list[Operation]:
    """Parse a command's option: names of operations, separated by commas."""
    try:
        return [OPERATIONS[name] for name in text.split(",")]
    except KeyError as exc:
        raise ArgumentTypeError(f"{exc} is none of {', '.join(OPERATIONS)}") from exc
