"""One client's connection: uvicorn's HTTP protocol, with limits on what a client can cost.

By itself, uvicorn parses everything that arrives, waits without a limit for clients that send or
read nothing, and keeps headers of any size. It parses the body of an upgrade request as the next
request. It answers what is no HTTP in plain text.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from errors import ApiError, HeadersTooLarge, RequestTimeout, ValidationFailed
from exchange import Exchange, WriteWatch, answer_with, complete_scope

RECEIVE_TIMEOUT = 15.0
"""Seconds within which a request must have arrived, its body included."""
WRITE_TIMEOUT = 30.0
"""Seconds after which a client that takes nothing of its answer is cut off."""
DRAIN_WRITE_TIMEOUT = 3.0
"""The same after SIGTERM."""
MAX_OVERHEAD = 64 * 1024
"""Bytes of a request that are no body: its head, trailers, chunk sizes and extensions."""
CHUNK_OVERHEAD = 8
"""Bytes that a byte of body may bring with it: a chunk of one byte has five."""
KEEP_ALIVE = 75
"""Seconds for which an idle connection stays open: longer than proxies keep theirs, often 60, or
they send a request just when it is closed, and their clients see a 502."""
LINGER_TIME = 2.0
"""Seconds of silence after which a connection is closed whose client may still be sending."""
MAX_LINGER_TIME = 10.0
"""Seconds after which it is closed although the client still sends."""
DRAIN_TIME = 1.0
"""Seconds after SIGTERM in which an idle connection may still send a request."""

HEAD_END = b"\r\n\r\n"


class Protocol(HttpToolsProtocol):
    """One client's connection.

    A request is parsed when the one before it has its response. The parser never gets more than the
    request's own bytes (`_next_piece`). So the bytes that follow cannot become a part of the
    request, and cannot be refused before it has its response.
    """

    cycle: Exchange
    url = b""
    _data = b""
    _parsed = 0
    _overhead = 0
    _body_left = 0
    _in_body = False
    _incomplete = True
    _discarding = False
    _heard = False
    _ended = False
    _draining = False
    _idle_since: float | None = None
    _receive_timer: asyncio.TimerHandle | None = None
    _unread: WriteWatch

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit of the first request."""
        super().connection_made(transport)
        self._unread = WriteWatch(transport, WRITE_TIMEOUT)
        self._await_the_rest()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._stop_receive_timer()
        self._unread.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has arrived."""
        if self._discarding:
            self._heard = True
            return
        self._idle_since = None
        self._data, self._parsed = self._data[self._parsed :] + data, 0
        self._parse()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection until the requests that arrived are answered."""
        self._ended = True
        if self._discarding:
            return self._answering()
        if self._may_parse():
            self._give_up(ValidationFailed("Request is incomplete"))
            return self._answering()
        return True

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _may_parse(self) -> bool:
        return self._incomplete and not self._discarding and not self.flow.write_paused

    def _parse(self) -> None:
        """Parse to the end of the request; what follows it waits until it is answered."""
        while self._data and self._may_parse() and (piece := self._next_piece()):
            self._feed(piece)
        if self._discarding or self.transport.is_closing():
            return
        if not self._may_parse():
            if self._parsed < len(self._data):
                self.flow.pause_reading()
        elif self._ended:
            self._give_up(ValidationFailed("Request is incomplete"))
        else:
            self._await_the_rest()

    def _next_piece(self) -> bytes:
        """Take at most the rest of the request from what has arrived.

        The end of a request is the end of its `Content-Length`, or an empty line: of a head, or
        of a chunked body. Not every empty line is an end, but no piece has one within.
        """
        start, end = self._parsed, len(self._data)
        if self._body_left:
            end = min(end, start + self._body_left)
        elif (found := self._data.find(HEAD_END, start)) >= 0:
            end = found + len(HEAD_END)
        else:
            # A possible beginning of an empty line waits for its rest.
            end -= next(n for n in (3, 2, 1, 0) if self._data.endswith(HEAD_END[:n]))
        piece = self._data[start:end]
        if end >= len(self._data):
            self._data, self._parsed = b"", 0
        else:
            self._parsed = max(start, end)
        return piece

    def _feed(self, piece: bytes) -> None:
        if self._body_left:
            self._body_left -= len(piece)
        else:
            self._overhead += len(piece)
        if self._overhead > MAX_OVERHEAD and not self._answering():
            self._fail(HeadersTooLarge())
            return
        try:
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade:
                # The parser would leave the body to the new protocol. A server may ignore that.
                head = b"".join(self._head_without_upgrade())
                self.parser = httptools.HttpRequestParser(self)
                self.parser.feed_data(head)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            self._fail(ValidationFailed("Invalid HTTP request", str(exc)))
        else:
            if self._overhead > MAX_OVERHEAD and self._incomplete:
                self._fail(HeadersTooLarge())

    def _head_without_upgrade(self) -> Iterator[bytes]:
        version = self.parser.get_http_version().encode()
        yield b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, version)
        yield from (b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade")
        yield b"\r\n"

    # The parser's callbacks. `feed_data` turns their exceptions into HttpParserError.

    def on_message_begin(self) -> None:
        """Begin a request."""
        if not self._incomplete or self._answering():
            raise RuntimeError("two requests in one piece")
        self._body_left = 0
        self._in_body = False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, unless it is a trailer."""
        if self._in_body:
            return
        name = name.lower()
        if name == b"content-length":
            # The parser has read it; `int` refuses more than 4,300 digits, zeros included.
            value = value.strip().lstrip(b"0") or b"0"
            self._body_left = int(value)
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Let the app answer."""
        if self.parser.should_upgrade():
            return
        self._in_body = True
        complete_scope(self.scope, self.parser, self.url)
        keep_alive = self.scope["http_version"] != "1.0" and self.parser.should_keep_alive()
        self._start(self.app, self.scope, keep_alive=keep_alive and not self._draining)

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body until the app reads it."""
        self._overhead -= (1 + CHUNK_OVERHEAD) * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Tell the app that the whole request is there."""
        if not self.parser.should_upgrade():
            self._incomplete = False
            self._stop_receive_timer()
            super().on_message_complete()

    def _start(self, app: Any, scope: Any, *, keep_alive: bool) -> None:  # noqa: ANN401
        self.cycle = Exchange(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        self._start_asgi_task(self.cycle, app)

    def on_response_complete(self) -> None:
        """Go on with the next request, or close."""
        self.server_state.total_requests += 1
        self._unread.start()
        if self.transport.is_closing():
            return
        if self.cycle.closes:
            self._close()
            return
        self._incomplete = True
        self._overhead = 0
        self._go_on()

    def _go_on(self) -> None:
        self.flow.resume_reading()
        if self._data:
            self._parse()
        elif self._ended:
            self.transport.close()
        else:
            self._idle_since = self.loop.time()
            if self.timeout_keep_alive_task is None:
                self.timeout_keep_alive_handler()

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if it was idle for long enough; look again if it is idle.

        A timer for each response would take 1 % of a request.
        """
        self.timeout_keep_alive_task = None
        if self._idle_since is not None:
            left = self._idle_since + self.timeout_keep_alive - self.loop.time()
            if left <= 0:
                self.transport.close()
                return
            again = self.timeout_keep_alive_handler
            self.timeout_keep_alive_task = self.loop.call_later(left, again)

    def _fail(self, error: ApiError) -> None:
        """Give up reading, and let the request be answered with the error if nothing else is.

        If the app is working on the request, the app responds: with the error if it still asks for
        the rest of the body, otherwise with its own response.
        """
        self._discarding = True
        self._data, self._parsed = b"", 0
        self._stop_receive_timer()
        self.flow.resume_reading()
        if not self._answering():
            method = self.parser.get_method().decode() if self.url else ""
            path = self.url.partition(b"?")[0].decode("latin-1") or "-"
            scope = {"type": "http", "method": method, "path": path, "headers": self.headers or []}
            self._start(answer_with(error), scope, keep_alive=False)
        elif self._incomplete:
            self.cycle.fail(error)
        else:
            self.cycle.closes = True

    def _give_up(self, error: ApiError) -> None:
        if self._answering() or self._overhead or self._data:
            self._fail(error)
        else:
            self.transport.close()

    def _await_the_rest(self) -> None:
        if self._receive_timer is None:
            self._receive_timer = self.loop.call_later(
                RECEIVE_TIMEOUT, self._give_up, RequestTimeout()
            )

    def _stop_receive_timer(self) -> None:
        if self._receive_timer is not None:
            self._receive_timer.cancel()
            self._receive_timer = None

    def pause_writing(self) -> None:
        """Let the app wait."""
        super().pause_writing()
        self._unread.start()

    def resume_writing(self) -> None:
        """Let the app go on, or take the next request."""
        super().resume_writing()
        self._unread.note_progress()
        if (self._data or self._ended) and self._may_parse() and not self.transport.is_closing():
            self._go_on()

    def shutdown(self) -> None:
        """Close after the request that is being answered, or that is on its way."""
        self._draining = True
        self._unread.timeout = DRAIN_WRITE_TIMEOUT
        if self._answering():
            self.cycle.closes = True
        else:
            self.loop.call_later(DRAIN_TIME, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if not self._answering():
            self.transport.close()

    def _close(self) -> None:
        """Close at once, or after the client had time to read.

        If a connection is closed while the client still sends, the response is lost in a reset.
        """
        still_sends = self._incomplete or self._data or self.flow.read_paused
        self._discarding = True
        self._data, self._parsed = b"", 0
        self._stop_receive_timer()
        if self._ended or not still_sends:
            self.transport.close()
            return
        self.flow.resume_reading()
        self.transport.write_eof()
        self.loop.call_later(LINGER_TIME, self._linger, self.loop.time() + MAX_LINGER_TIME)

    def _linger(self, until: float) -> None:
        if self._heard and self.loop.time() < until and not self._draining:
            self._heard = False
            self.loop.call_later(LINGER_TIME, self._linger, until)
        else:
            self.transport.close()
