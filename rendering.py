"""Parses JSON, and renders, hashes and sends it in parts, so that other requests can go on."""

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson
from fastapi import Response
from starlette.types import Receive, Scope, Send

OPTIONS = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


def to_json(value: Any) -> bytes:  # noqa: ANN401  # whatever an endpoint returns
    """Return JSON; naive datetimes are in UTC."""
    return orjson.dumps(value, option=OPTIONS)


def from_json(text: bytes) -> Any:  # noqa: ANN401  # whatever it holds
    """Parse JSON as `json` does, but faster where orjson agrees.

    Raises:
        ValueError: It is not JSON.
        RecursionError: It is nested too deeply.

    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # It also refuses lone surrogates, a BOM, and numbers that no float can hold.
        return json.loads(text)


class Parts:
    """A JSON object with an array first, in parts that are each quick to handle.

    It holds what is added, and joins it each time anew: a long list is in memory once.
    """

    def __init__(self, name: str) -> None:
        self._before = b'{"%s":[' % name.encode()
        self._after = b""
        self._groups: deque[Sequence[bytes]] = deque()
        self._number = 0
        self._size = 0

    def add(self, *elements: bytes) -> None:
        """Add a part: elements of the array, or several with commas between them."""
        self._groups.append(elements)
        self._number += 1
        self._size += sum(map(len, elements)) + len(elements)  # a comma for each

    def finish(self, **others: object) -> None:
        """Close the array, and add the other fields."""
        if not self._groups:
            self.add()
        self._after = b"]," + to_json(others)[1:]

    def __len__(self) -> int:
        """Return the number of parts."""
        return self._number

    @property
    def size(self) -> int:
        """The bytes of all parts."""
        return len(self._before) + max(self._size - 1, 0) + len(self._after)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the parts."""
        return self._joined(self._groups)

    def take(self) -> Iterator[bytes]:
        """Yield the parts for the last time; each is freed before the next."""
        return self._joined(self._groups.popleft() for _ in range(len(self._groups)))

    def _joined(self, groups: Iterable[Sequence[bytes]]) -> Iterator[bytes]:
        before = self._before
        for number, group in enumerate(groups, 1):
            yield before + b",".join(group) + (self._after if number == self._number else b"")
            before = b","


async def sha256(parts: Iterable[bytes]) -> str:
    """Return the hash of a text in parts."""
    digest = hashlib.sha256()
    for number, part in enumerate(parts):
        if number:
            await asyncio.sleep(0)
        digest.update(part)
    return digest.hexdigest()


def response_of(parts: Parts | tuple[bytes], status_code: int) -> Response:
    """Return a response with JSON."""
    if not isinstance(parts, Parts):
        return _JSONResponse(parts[0], status_code)
    if len(parts) > 1:
        return PartsResponse(parts, status_code)
    return _JSONResponse(next(iter(parts)), status_code)


class _JSONResponse(Response):
    def __init__(self, body: bytes, status_code: int) -> None:
        """Take what is complete; starlette looks for headers, an encoding and a charset first."""
        self.status_code = status_code
        self.background = None
        self.body = body
        length = b"%d" % len(body)
        self.raw_headers = [(b"content-length", length), (b"content-type", b"application/json")]


class PartsResponse(Response):
    """A response that is sent part by part, each when the client has taken the ones before."""

    def __init__(self, parts: Parts, status_code: int) -> None:
        super().__init__(status_code=status_code, media_type="application/json")
        self.headers["Content-Length"] = str(parts.size)
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send it."""
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        for part in self._parts.take():
            await send({"type": "http.response.body", "body": part, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
