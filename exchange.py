"""One request and its response on a connection, and the limit on a client that does not read it."""

import asyncio
import ctypes
import logging
import socket
import struct
from collections.abc import Coroutine
from contextlib import suppress
from http import HTTPStatus
from typing import Any, ClassVar
from urllib.parse import unquote

import httptools
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from errors import ApiError, ServerError, render
from middleware.request_log import RequestLogMiddleware
from middleware.response_headers import ResponseHeadersMiddleware

MAX_UNSENT = 128 * 1024
"""Bytes of an answer that the kernel may hold before they are on their way."""
MAX_QUERY = 4096
"""Bytes of a query that endpoints outside the API get to see."""
TRANSFER_ENCODINGS: dict[str, list[list[bytes]]] = {"1.0": [[]], "1.1": [[], [b"chunked"]]}
BODILESS = {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
LEAST_TAKEN = 32 * 1024
"""Bytes that count as something: with one byte now and then a connection would live for days."""
UNSENT_OPTION = getattr(socket, "TCP_NOTSENT_LOWAT", None)
RETURN_DELAY = 5.0
"""Seconds from the first client that is cut off to the return of what all of them have held."""
RESET = struct.pack("ii", 1, 0)

logger = logging.getLogger(__name__)


class Exchange(RequestResponseCycle):
    """A request and its response."""

    failure: ApiError | None = None
    closes = False
    _head = b""

    def receive(self) -> Coroutine[Any, Any, Any]:  # uvicorn's own types are private
        """Return a part of the body, or raise the error of the request."""
        if self.failure and not self.response_started:
            raise self.failure
        return super().receive()

    async def send(self, message: Any) -> None:  # noqa: ANN401
        """Send a part of the response; announce that the connection closes if it does.

        The head waits for the first part of the body: one system call and one packet less.
        """
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        expected = "http.response.body" if self.response_started else "http.response.start"
        if message["type"] != expected or self.response_complete:
            raise RuntimeError(f"the app sent {message['type']} out of turn")
        if self.response_started:
            self._send_body(message.get("body", b""), more=message.get("more_body", False))
        else:
            self._head = self._head_of(message)
            self.response_started = True
            self.waiting_for_100_continue = False

    def _head_of(self, message: Any) -> bytes:  # noqa: ANN401
        """Return the head of the response.

        Uvicorn searches each header for characters that break a head; to count the lines of the
        whole head takes a tenth of that.
        """
        headers = [*self.default_headers, *message.get("headers", ())]
        # The rest of a request with an early response is not parsed. Uvicorn would close at once,
        # which resets a client that still sends, before it has read.
        self.closes = self.closes or self.more_body or not self.keep_alive
        if self.closes:
            headers.append((b"connection", b"close"))
        # Tell the client where the body ends.
        self.chunked_encoding = False
        if length := dict(headers).get(b"content-length"):
            self.expected_content_length = int(length)
        elif message["status"] not in BODILESS and self.scope["method"] != "HEAD":
            self.chunked_encoding = True
            headers.append((b"transfer-encoding", b"chunked"))
        lines = [STATUS_LINE[message["status"]], *[b"%b: %b\r\n" % each for each in headers]]
        head = b"".join(lines)
        if head.count(b"\r") != len(lines) or head.count(b"\n") != len(lines):
            raise RuntimeError("a header of the response holds a line break")
        return head + b"\r\n"

    def _send_body(self, body: bytes, *, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
            body = b""
        elif self.chunked_encoding:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body += b"" if more else b"0\r\n\r\n"
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0 or (self.expected_content_length and not more):
                raise RuntimeError("the body is not as long as its Content-Length")
        self.transport.write(self._head + body)
        self._head = b""
        if not more:
            self.response_complete = True
            self.message_event.set()
            self.on_response()

    async def send_500_response(self) -> None:
        """Answer in the common body when the app's outermost layers fail."""
        await answer_with(ServerError())(dict(self.scope), self.receive, self.send)

    def fail(self, error: ApiError) -> None:
        """Let the app respond that the request is incomplete."""
        self.failure = error
        self.message_event.set()


def answer_with(error: ApiError) -> ASGIApp:
    """Return an app that responds with the error, as the service's own app would."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await render(error)(scope, receive, send)

    return RequestLogMiddleware(ResponseHeadersMiddleware(answer))


def complete_scope(scope: Any, parser: httptools.HttpRequestParser, url: bytes) -> None:  # noqa: ANN401
    """Complete the scope from the request line.

    Raises:
        ValueError: The end of the body is not clear, or the HTTP version is not 1.0 or 1.1.
        HttpParserInvalidURLError: The URL is not valid.

    """
    version = parser.get_http_version()
    codings = [value.lower() for name, value in scope["headers"] if name == b"transfer-encoding"]
    if codings not in TRANSFER_ENCODINGS.get(version, ()):
        raise ValueError("Unsupported HTTP version or Transfer-Encoding")
    parsed = httptools.parse_url(url)
    raw_path, query = parsed.path or b"/", parsed.query or b""
    scope["method"] = parser.get_method().decode()
    scope["http_version"] = version
    scope["raw_path"] = raw_path
    scope["path"] = unquote(raw_path.decode("ascii"))
    # FastAPI reads the query for every endpoint, which takes 30 ms for 30,000 parameters. Only
    # the API's endpoints have some, and read it themselves.
    scope["query_string"] = query if raw_path.startswith(b"/api/") else query[:MAX_QUERY]


class WriteWatch:
    """Cuts off a client that reads nothing, or next to nothing, of its responses for a while."""

    _next_return: ClassVar[float] = 0.0
    _left = 0
    _since = 0.0

    def __init__(self, transport: asyncio.Transport, timeout: float) -> None:
        self.timeout = timeout
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None
        if UNSENT_OPTION is not None:
            # Otherwise a slow client looks like one that reads nothing: the kernel holds megabytes.
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.IPPROTO_TCP, UNSENT_OPTION, MAX_UNSENT)

    def start(self) -> None:
        """Look every second, until the client has taken all that was written."""
        if self._timer is None and self._transport.get_write_buffer_size():
            self.note_progress()
            self._look()

    def stop(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()

    def note_progress(self) -> None:
        """Start the time limit anew."""
        self._left = self._transport.get_write_buffer_size()
        self._since = asyncio.get_running_loop().time()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        unsent = self._transport.get_write_buffer_size()
        if unsent <= self._left - LEAST_TAKEN:
            self.note_progress()
        self._left = max(self._left, unsent)  # more has been written
        if not unsent:
            self._timer = None
        elif loop.time() - self._since < self.timeout:
            self._timer = loop.call_later(1, self._look)
        else:
            logger.warning("Client took nothing of its answer for %d s", self.timeout)
            # Without a reset, the kernel would keep its part of the response for minutes.
            connection = self._transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._transport.abort()
            if loop.time() > WriteWatch._next_return:
                WriteWatch._next_return = loop.time() + RETURN_DELAY
                # In a thread: it takes a tenth of a second.
                loop.call_later(RETURN_DELAY, loop.run_in_executor, None, _return_memory)


def _return_memory() -> None:
    """Let glibc return what it keeps of freed memory: 200 MB after 20 long lists.

    Other C libraries do it by themselves.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
