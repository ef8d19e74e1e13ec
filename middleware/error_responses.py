"""A response in the common body for each exception, and the log of those that nobody foresaw."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from http import HTTPStatus
from traceback import walk_tb
from typing import Any

import psycopg2
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from errors import NOT_AN_OBJECT, ApiError, ServerError, ValidationFailed, render, report
from logs import request_context

# Sentences for pydantic's own checks, by error type. The checks in schemas.py have their own.
SENTENCES = {
    "missing": "is required",
    "string_type": "must be a string",
    "string_unicode": "must not contain characters that cannot be stored",
    "bool_type": "must be true or false",
}
MAX_FAULTS = 1000
TRACEBACK_INTERVAL = 60.0
"""Seconds after which the same fault is logged with its traceback again."""
NO_UPLOADS = AsyncExitStack()
"""What closes uploaded files after a request; FastAPI asks for one, and no endpoint takes files."""

logger = logging.getLogger(__name__)


class ErrorMiddleware:
    """Answer every exception of a request as `{"detail": …, "code": …}`.

    It is inside CORS. Without CORS headers, a browser hides a 500 from the page.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._faults = _FaultLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; respond if that raises, unless a response has begun."""
        scope["fastapi_middleware_astack"] = NO_UPLOADS
        try:
            await self.app(scope, receive, send)
        except Exception as exc:
            context = request_context.get()
            may_respond = context is not None and not context.status
            response = _foreseen(exc, Request(scope)) if may_respond else None
            if response is None:
                self._faults.log(exc)
                report(exc, _route(scope))
                if not may_respond:
                    raise
                response = render(ServerError())
            await response(scope, receive, send)


def _foreseen(exc: Exception, request: Request) -> Response | None:
    match exc:
        case ApiError():
            return render(exc)
        case ClientDisconnect():
            return render(ValidationFailed("Request body is incomplete"))
        case RequestValidationError():
            return render(ValidationFailed(_sentence(exc.errors()[0])))
        case HTTPException():
            return _of_framework(exc, request)
    return None


def _of_framework(exc: HTTPException, request: Request) -> JSONResponse:
    """Render the framework's own errors: unknown paths and wrong methods."""
    status = HTTPStatus(exc.status_code)
    headers = dict(exc.headers or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed_methods(request))
    body = {"detail": status.phrase.capitalize(), "code": status.name}
    return JSONResponse(body, status, headers)


def _allowed_methods(request: Request) -> Sequence[str]:
    # A route knows only its own methods, not those of other routes with the same path.
    methods: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        if route.methods and route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods
    if "GET" in methods or not methods:
        methods |= {"GET", "HEAD"}
    return sorted(methods)


def _sentence(error: Mapping[str, Any]) -> str:
    """Say in one sentence what is wrong, without what was sent."""
    _where, *path = error["loc"]
    if not path:
        return NOT_AN_OBJECT
    name = str(path[0]).replace("_", " ")
    name = name[:1].upper() + name[1:]
    if error["type"] == "enum":
        return f"{name} must be {error['ctx']['expected']}".replace("'", "")
    return f"{name} {SENTENCES.get(error['type'], error['msg'])}"


def _route(scope: Scope) -> str:
    """Return the method and the template of the path, without the client's values."""
    route = scope.get("route")
    return f"{scope.get('method', '')} {getattr(route, 'path', '(no route)')}"


class _FaultLog:
    """The traceback of each distinct fault once a minute, and a line for each repetition.

    Exceptions with the same class, SQLSTATE and place in the code are the same fault. An outage
    fails hundreds of requests a second at one place: their tracebacks would fill the disk.
    """

    def __init__(self) -> None:
        self._faults: dict[object, tuple[float, int]] = {}

    def log(self, exc: Exception) -> None:
        cause = getattr(exc, "orig", None) or exc  # SQLAlchemy's errors carry the driver's
        if isinstance(cause, psycopg2.Error):
            # The driver's error says it all; the exception before it adds nothing.
            cause.__cause__ = None
            cause.__suppress_context__ = True
        *_, (frame, line) = walk_tb(exc.__traceback__)
        fault: tuple[object, ...] = type(cause), getattr(cause, "pgcode", None), frame.f_code, line
        if isinstance(cause, psycopg2.OperationalError):
            fault += (str(cause),)  # without SQLSTATE where connecting failed
        if len(self._faults) > MAX_FAULTS:
            self._faults.clear()
        now = time.monotonic()
        since, repeated = self._faults.get(fault, (-math.inf, 0))
        if now < since + TRACEBACK_INTERVAL:
            self._faults[fault] = since, repeated + 1
            logger.error(
                "Internal server error: %s, %d times since its traceback",
                type(cause).__name__,
                repeated + 1,
            )
        else:
            self._faults[fault] = now, 0
            logger.error(
                "Internal server error", exc_info=(type(cause), cause, cause.__traceback__)
            )
