"""One log line a request, and an id that ties the request to its lines."""

import logging
import os
import re
import time
from collections.abc import Awaitable, Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from logs import RequestContext, log_request, request_context

REQUEST_ID = re.compile(rb"[\w.-]{1,64}")

logger = logging.getLogger(__name__)


class RequestLogMiddleware:
    """Log each request's status and duration; answer with its `X-Request-ID`.

    A proxy's own `X-Request-ID` is kept if it is 1 to 64 letters, digits and `.-_`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle the request inside its log context."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope["headers"])
        header = (b"x-request-id", request_id.encode())

        def send_with_id(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                message["headers"] = [*message.get("headers", ()), header]
            return send(message)

        # What the protocol refuses may have neither.
        endpoint = f"{scope['method']} {scope['path']}".lstrip()
        context = RequestContext(endpoint, request_id)
        token = request_context.set(context)
        try:
            await self.app(scope, receive, send_with_id)
        finally:
            milliseconds = (time.perf_counter() - started) * 1000
            log_request(logger, f"{context.status} in {milliseconds:.1f} ms")
            request_context.reset(token)


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == b"x-request-id":
            if REQUEST_ID.fullmatch(value):
                return value.decode()
            break
    return os.urandom(16).hex()
