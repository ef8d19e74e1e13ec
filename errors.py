"""Every error of a request, and the one place that renders them."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from traceback import walk_tb
from types import MappingProxyType
from typing import Any, ClassVar

import psycopg2
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Sentences for pydantic's own checks, by error type. The checks in schemas.py have their own.
SENTENCES = {
    "missing": "is required",
    "string_type": "must be a string",
    "string_unicode": "must not contain characters that cannot be stored",
    "bool_type": "must be true or false",
}

NOT_AN_OBJECT = "Request body must be a JSON object, sent with Content-Type: application/json"

MAX_FAULTS = 1000
TRACEBACK_INTERVAL = 60.0
"""Seconds after which the same fault is logged with its traceback again."""

reporters: list[Callable[[Exception, str], None]] = []
"""Who is told of each fault, and where it happened."""

logger = logging.getLogger(__name__)


class ApiError(Exception):
    """An error response. There is a subclass for each thing that a client can do differently.

    Args:
        reason: What exactly was wrong, only for the log. It must hold no token and no secret.

    """

    status: ClassVar[HTTPStatus]
    code: ClassVar[str]
    detail: str
    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or self.detail)
        self.reason = reason


class ValidationFailed(ApiError):
    """The request is not valid; the sentence says why."""

    status = HTTPStatus.BAD_REQUEST
    code = "VALIDATION_ERROR"

    def __init__(self, detail: str, reason: str = "") -> None:
        self.detail = detail
        super().__init__(reason)


class Unauthorized(ApiError):
    """There is no valid token. Get a new one."""

    status = HTTPStatus.UNAUTHORIZED
    code = "UNAUTHORIZED"
    detail = "Invalid or expired authentication token"
    headers = MappingProxyType({"WWW-Authenticate": "Bearer"})


class InvalidToken(Unauthorized):
    """The token is not valid."""

    headers = MappingProxyType({"WWW-Authenticate": 'Bearer error="invalid_token"'})


class UserMismatch(ApiError):
    """The path names another user than the token."""

    status = HTTPStatus.FORBIDDEN
    code = "FORBIDDEN"
    detail = "Access denied: user_id mismatch"


class NotTaskOwner(ApiError):
    """The task belongs to another user."""

    status = HTTPStatus.FORBIDDEN
    code = "FORBIDDEN"
    detail = "Access denied: task belongs to another user"


class TaskNotFound(ApiError):
    """There is no such task."""

    status = HTTPStatus.NOT_FOUND
    code = "NOT_FOUND"

    def __init__(self, task_id: int) -> None:
        self.detail = f"Task with id {task_id} not found"
        super().__init__()


class PreconditionFailed(ApiError):
    """The task has changed since the version that `If-Match` names; `ETag` names the current one.

    Args:
        tag: The current version.

    """

    status = HTTPStatus.PRECONDITION_FAILED
    code = "PRECONDITION_FAILED"
    detail = "The task has changed in the meantime"

    def __init__(self, tag: str) -> None:
        self.headers = {"ETag": tag}
        super().__init__()


class PayloadTooLarge(ApiError):
    """The request body is over 64 KiB."""

    status = HTTPStatus(413)  # its name differs between Python's versions
    code = "PAYLOAD_TOO_LARGE"
    detail = "Request body must be at most 64 KiB"


class IdempotencyKeyReused(ApiError):
    """The `Idempotency-Key` belongs to another task; every new task needs a new key."""

    status = HTTPStatus(422)  # its name differs between Python's versions
    code = "IDEMPOTENCY_KEY_REUSED"
    detail = "Idempotency-Key was used before with another title or description"


class TooManyRequests(ApiError):
    """The user has sent more requests than `RATE_LIMIT` allows; `Retry-After` says when to go on.

    Args:
        seconds: After which the next request is allowed.

    """

    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "RATE_LIMITED"
    detail = "Too many requests"

    def __init__(self, seconds: int) -> None:
        self.headers = {"Retry-After": str(seconds)}
        super().__init__()


class RequestTimeout(ApiError):
    """The request did not arrive in time."""

    status = HTTPStatus.REQUEST_TIMEOUT
    code = "REQUEST_TIMEOUT"
    detail = "Request took too long to arrive"


class HeadersTooLarge(ApiError):
    """The request's headers are over 64 KiB."""

    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    code = "REQUEST_HEADER_FIELDS_TOO_LARGE"
    detail = "Request headers must be at most 64 KiB"


class ServerError(ApiError):
    """The database cannot be reached, or the service has a fault."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    code = "SERVER_ERROR"
    detail = "Internal server error"


def codes() -> list[str]:
    """Return every `code` that a response can have. METHOD_NOT_ALLOWED has no class here."""
    own = {error.code for error in ApiError.__subclasses__()}
    return sorted({*own, HTTPStatus.METHOD_NOT_ALLOWED.name})


class Causes:
    """Part of a parameter's Annotated: the errors that it can cause, for the OpenAPI document."""

    def __init__(self, *errors: ApiError) -> None:
        self.errors = errors


def install(app: FastAPI) -> None:
    """Render every error of the app as `{"detail": …, "code": …}`.

    Call it before the CORS middleware is added, so that a 500 is rendered inside CORS. Without CORS
    headers, a browser hides the response from the page.
    """
    app.add_exception_handler(ApiError, _render_api_error)
    app.add_exception_handler(ClientDisconnect, _render_disconnect)
    app.add_exception_handler(RequestValidationError, _render_validation_error)
    app.add_exception_handler(HTTPException, _render_http_exception)
    app.add_middleware(_UnhandledErrorMiddleware)


def render(error: ApiError) -> JSONResponse:
    """Return the error's response, and log its reason."""
    if error.reason:
        logger.warning("%s: %s", error.detail, error.reason)
    elif error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.debug("%s: %s", error.code, error.detail)
    return JSONResponse(
        {"detail": error.detail, "code": error.code}, error.status, dict(error.headers)
    )


async def _render_api_error(_request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, ApiError)
    return render(exc)


async def _render_disconnect(_request: Request, _exc: Exception) -> JSONResponse:
    return render(ValidationFailed("Request body is incomplete"))


async def _render_validation_error(_request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, RequestValidationError)
    return render(ValidationFailed(_sentence(exc.errors()[0])))


async def _render_http_exception(request: Request, exc: Exception) -> JSONResponse:
    """Render the framework's own errors: unknown paths and wrong methods."""
    assert isinstance(exc, HTTPException)
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


def report(exc: Exception, place: str) -> None:
    """Tell the reporters; ignore their own errors."""
    for reporter in reporters:
        try:
            reporter(exc, place)
        except Exception:
            logger.exception("The error could not be reported")


def _route(scope: Scope) -> str:
    """Return the method and the template of the path, without the client's values."""
    route = scope.get("route")
    return f"{scope.get('method', '')} {getattr(route, 'path', '(no route)')}"


class _UnhandledErrorMiddleware:
    """Respond with 500 to an unhandled exception, and log it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._faults = _FaultLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def observed_send(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, observed_send)
        except Exception as exc:
            self._faults.log(exc)
            report(exc, _route(scope))
            if started or scope["type"] != "http":
                raise
            await render(ServerError())(scope, receive, send)


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
