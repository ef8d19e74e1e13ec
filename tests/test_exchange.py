"""How a response's head and body are written, whatever the app sends."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from protocol import Protocol
from server import OPTIONS

Header = tuple[bytes, bytes]


async def response_to(
    method: str, status: int, headers: Sequence[Header], parts: Sequence[bytes]
) -> bytes:
    """Return what a client receives if the app sends this."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})

    async with connection_to(app) as (reader, writer):
        writer.write(f"{method} / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return await reader.read()


@asynccontextmanager
async def connection_to(
    app: ASGIApp, **options: float
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Serve an app; yield a connection to it."""
    config = uvicorn.Config(app, **OPTIONS | options)
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Protocol(config, ServerState(), {}), host="127.0.0.1", port=0
    )
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        yield reader, writer
        writer.close()


@pytest.mark.parametrize(
    "header",
    [
        *((b"x-name", b"a\r\nset-cookie: b"), (b"x-name", b"a\nset-cookie: b")),
        *((b"x-name", b"a\r"), (b"x-name: a\r\nset-cookie", b"b")),
    ],
)
def test_no_header_can_bring_another(header: Header) -> None:
    received = asyncio.run(response_to("GET", 200, [header], [b"body"]))
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 ")
    assert b"set-cookie" not in received
    assert body == b'{"detail":"Internal server error","code":"SERVER_ERROR"}'


def test_a_body_of_unknown_length_is_chunked() -> None:
    received = asyncio.run(response_to("GET", 200, [], [b"first", b"", b"second"]))
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"\r\ntransfer-encoding: chunked" in head
    assert body == b"5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n"


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_a_response_without_a_body_has_none(method: str, status: int) -> None:
    received = asyncio.run(response_to(method, status, [], []))
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body == b""


def test_a_length_is_sent_as_it_is() -> None:
    received = asyncio.run(response_to("GET", 200, [(b"content-length", b"4")], [b"bo", b"dy"]))
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"\r\ncontent-length: 4" in head
    assert body == b"body"


@pytest.mark.parametrize("parts", [[b"bo"], [b"bo", b"dy", b"!"]])
def test_a_body_of_another_length_ends_the_connection(parts: Sequence[bytes]) -> None:
    received = asyncio.run(response_to("GET", 200, [(b"content-length", b"4")], parts))
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == b"".join(parts)[:4]


def test_an_idle_connection_is_closed_and_a_busy_one_is_not() -> None:
    keep_alive = 0.2
    finished = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await asyncio.sleep(float(scope["query_string"]))
        finished.append(scope["query_string"])
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    async def run() -> None:
        async with connection_to(app, timeout_keep_alive=keep_alive) as (reader, writer):
            # The second one takes longer than an idle connection has.
            for seconds in (0, 3 * keep_alive, 0):
                writer.write(b"GET /?%g HTTP/1.1\r\nHost: x\r\n\r\n" % seconds)
                assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
            assert await reader.read() == b""

    asyncio.run(run())
    assert finished == [b"0", b"0.6", b"0"]
