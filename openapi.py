"""What the OpenAPI document says of errors, so that generated clients are right."""

from typing import Any

from fastapi import FastAPI

from errors import (
    ApiError,
    NotTaskOwner,
    PayloadTooLarge,
    ServerError,
    TaskNotFound,
    Unauthorized,
    UserMismatch,
    ValidationFailed,
)
from schemas import ErrorResponse

ERRORS: dict[int, tuple[str, dict[str, ApiError]]] = {
    400: (
        "Something in the request is not valid",
        {"validation": ValidationFailed("Title must be between 1 and 200 characters")},
    ),
    401: ("There is no valid token", {"unauthorized": Unauthorized()}),
    403: (
        "The path or the task belongs to another user",
        {"user_id mismatch": UserMismatch(), "task ownership": NotTaskOwner()},
    ),
    404: ("There is no such task", {"not found": TaskNotFound(999)}),
    413: ("The request body is over 64 KiB", {"too large": PayloadTooLarge()}),
    500: ("Something failed in the service", {"server error": ServerError()}),
}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document an operation's errors with their bodies."""
    return {status: _response(*ERRORS[status]) for status in statuses}


def _response(description: str, errors: dict[str, ApiError]) -> dict[str, Any]:
    examples = {
        name: {"value": {"detail": error.detail, "code": error.code}}
        for name, error in errors.items()
    }
    headers = {name for error in errors.values() for name in error.headers}
    return {
        "model": ErrorResponse,
        "description": description,
        "content": {"application/json": {"examples": examples}},
        "headers": {name: {"schema": {"type": "string"}} for name in headers},
    }


def document(app: FastAPI) -> None:
    """Take the 422 out of the app's document: FastAPI adds it, and this service answers 400."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        schema = generate()
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            schema["components"]["schemas"].pop(name, None)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it
