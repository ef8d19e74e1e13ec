"""What the measurements ask: one table of operations, and the requests made from it."""

import json
import random
import time
import uuid
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from jose import jwt

from benchmarks.data import WRITERS, Database, Owner

SECRET = "only-for-benchmarks-0123456789-abcdefghijkl"
REPEATED = 4000
"""How many different requests an operation has; they are sent over and over."""
SENT_ONCE = 10_000
"""Where none may be sent twice, how many there are for each second: more than any app answers."""
CONDITIONAL = 200
"""Where each needs an ETag first."""
CREATE = {"title": "Buy groceries for the week", "description": "Milk, bread and eggs"}
UPDATE = {"title": "Buy groceries for the next week", "completed": True}


@dataclass(frozen=True)
class Operation:
    """A request to a user's tasks. Path and headers may hold what `requests` fills in.

    `{id}` is one of the user's tasks, `{deletable}` one made to be deleted, `{unique}` a text never
    sent before, `{etag}` what a GET of the same path has as its ETag.
    """

    name: str
    method: str
    path: str = ""
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    services_only: bool = False
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
    body: bytes

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
        Operation("create", "POST", "", CREATE, status=201),
        Operation("toggle", "PATCH", "/{id}/complete"),
        Operation("update", "PUT", "/{id}", UPDATE),
        Operation("delete", "DELETE", "/{deletable}", status=204),
    )
}


def requests(  # noqa: PLR0913  # what a run is made of
    operation: Operation,
    database: Database,
    etag: Callable[[Request], str],
    *,
    owners: Sequence[Owner] = (),
    seconds: int = 1,
    seed: int = 0,
) -> Iterator[Request]:
    """Make the requests of a run of so many seconds; the same seed makes the same ones."""
    chance = random.Random(seed)
    number = SENT_ONCE * seconds if operation.has("{unique}") else REPEATED
    if operation.has("{etag}"):
        number = CONDITIONAL
    users: Sequence[Owner] = WRITERS if operation.method == "POST" else owners or database.readers
    deletable: Sequence[int] = ()
    if operation.has("{deletable}"):
        deletable, users = database.deletable(SENT_ONCE * seconds), WRITERS[:1]
        number = len(deletable)
    body = json.dumps(operation.body).encode() if operation.body else b""
    for turn in range(number):
        owner = chance.choice(users)
        known = {
            "id": owner.first + owner.step * chance.randrange(owner.count or 1),
            "deletable": deletable[turn] if deletable else "",
            "unique": uuid.uuid4(),
        }
        path = f"/api/{owner.user_id}/tasks" + operation.path.format(**known)
        common = {"Authorization": f"Bearer {token(owner.user_id)}"}
        if body:
            common["Content-Type"] = "application/json"
        if operation.has("{etag}"):
            known["etag"] = etag(Request("GET", path, common, b""))
        special = {name: text.format(**known) for name, text in operation.headers.items()}
        yield Request(operation.method, path, common | special, body)


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
