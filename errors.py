"""Every error of a request, and the one body that they have."""

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import ClassVar

from fastapi.responses import JSONResponse

NOT_AN_OBJECT = "Request body must be a JSON object, sent with Content-Type: application/json"

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


def render(error: ApiError) -> JSONResponse:
    """Return the error's response, and log its reason."""
    if error.reason:
        logger.warning("%s: %s", error.detail, error.reason)
    elif error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.debug("%s: %s", error.code, error.detail)
    return JSONResponse(
        {"detail": error.detail, "code": error.code}, error.status, dict(error.headers)
    )


def report(exc: Exception, place: str) -> None:
    """Tell the reporters; ignore their own errors."""
    for reporter in reporters:
        try:
            reporter(exc, place)
        except Exception:
            logger.exception("The error could not be reported")
