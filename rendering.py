"""Renders, hashes and sends JSON in parts, so that other requests can go on in between."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi import Response
from starlette.types import Receive, Scope, Send

OPTIONS = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


def to_json(value: Any) -> bytes:  # noqa: ANN401  # whatever an endpoint returns
    """Return JSON; naive datetimes are in UTC."""
    return orjson.dumps(value, option=OPTIONS)


class Parts(list[bytes]):
    """A JSON object with an array first, in parts that are each quick to handle."""

    def __init__(self, name: str) -> None:
        super().__init__([b'{"%s":[' % name.encode()])
        self._is_empty = True

    def add(self, elements: bytes) -> None:
        """Add elements of the array, with commas between them."""
        if self._is_empty:
            self[-1] += elements
        elif elements:
            self.append(b"," + elements)
        self._is_empty = self._is_empty and not elements

    def finish(self, **others: object) -> "Parts":
        """Close the array, and add the other fields."""
        self[-1] += b"]," + to_json(others)[1:]
        return self


async def sha256(parts: Sequence[bytes]) -> str:
    """Return the hash of a text in parts."""
    digest = hashlib.sha256(parts[0])
    for part in parts[1:]:
        await asyncio.sleep(0)
        digest.update(part)
    return digest.hexdigest()


def response_of(parts: Sequence[bytes], status_code: int) -> Response:
    """Return a response with JSON."""
    if len(parts) == 1:
        return _JSONResponse(parts[0], status_code)
    return PartsResponse(parts, status_code)


class _JSONResponse(Response):
    def init_headers(self, _headers: Mapping[str, str] | None = None) -> None:
        """Make the two headers; starlette looks for others first."""
        length = b"%d" % len(self.body)
        self.raw_headers = [(b"content-length", length), (b"content-type", b"application/json")]


class PartsResponse(Response):
    """A response that is sent part by part, each when the client has taken the ones before."""

    def __init__(self, parts: Sequence[bytes], status_code: int) -> None:
        super().__init__(status_code=status_code, media_type="application/json")
        self.headers["Content-Length"] = str(sum(map(len, parts)))
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
        for part in self._parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
