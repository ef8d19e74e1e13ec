"""What the OpenAPI document says of responses, so that generated clients and readers are right."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.models import Example
from fastapi.routing import APIRoute

from errors import (
    ApiError,
    Causes,
    PayloadTooLarge,
    ServerError,
    Unauthorized,
    UserMismatch,
    ValidationFailed,
)
from schemas import ErrorResponse

TASK = {
    "id": 1,
    "user_id": "user_123",
    "title": "Complete project documentation",
    "description": "Write API specs and implementation guide",
    "completed": False,
    "created_at": "2026-01-09T10:00:00Z",
    "updated_at": "2026-01-09T10:00:00Z",
}
TASK_LIST = {
    "tasks": [
        TASK,
        {
            "id": 2,
            "user_id": "user_123",
            "title": "Review pull requests",
            "description": None,
            "completed": False,
            "created_at": "2026-01-09T09:30:00Z",
            "updated_at": "2026-01-09T09:30:00Z",
        },
    ],
    "count": 2,
}
NEW_TASK: dict[str, Any] = {
    "title": "Buy groceries",
    "description": "Milk, bread, eggs, coffee",
}
CREATED_TASK = {
    "id": 3,
    "user_id": "user_123",
    **NEW_TASK,
    "completed": False,
    "created_at": "2026-01-09T11:00:00Z",
    "updated_at": "2026-01-09T11:00:00Z",
}
CHANGES: dict[str, Any] = {"title": "Complete project documentation ASAP", "completed": True}
CHANGED_TASK = {**TASK, **CHANGES, "updated_at": "2026-01-09T11:30:00Z"}
TOGGLED_TASK = {**TASK, "completed": True, "updated_at": "2026-01-09T12:00:00Z"}

REPLAYED: dict[str, Any] = {
    "Idempotency-Replayed": {
        "description": "`true` if the task was created by an earlier request with the same key.",
        "schema": {"type": "string", "const": "true"},
    }
}

ALWAYS = (Unauthorized(), UserMismatch(), ServerError())

NEW_TASK_EXAMPLE: dict[str, Example] = {"new task": {"value": NEW_TASK}}
BULK_EXAMPLE: dict[str, Example] = {"complete all": {"value": {"completed": True}}}
CHANGES_EXAMPLE: dict[str, Example] = {"changes": {"value": CHANGES}}

NEXT_LINK = {
    "headers": {
        "Link": {
            "description": 'The next page, with `rel="next"`; absent on the last one.',
            "schema": {"type": "string"},
        }
    }
}

Responses = dict[int | str, dict[str, Any]]


def operation_id(route: APIRoute) -> str:
    """Name an operation after its function; generated clients name their methods after it."""
    return route.name


def example(value: object) -> dict[str, Any]:
    """Document a response by an example."""
    return {"content": {"application/json": {"example": value}}}


def with_errors(documented: Responses | None, declared: Dependant) -> Responses:
    """Add the errors that an endpoint's parameters can cause, and those that each request can."""
    responses: Responses = {**(documented or {})}
    for error in sorted((*_errors(declared), *ALWAYS), key=lambda error: error.status):
        summary = (type(error).__doc__ or "").partition("\n")[0]
        response = responses.setdefault(error.status.value, _error_response(error))
        if summary not in response["description"]:
            response["description"] = f"{response['description']} {summary}".strip()
        response["content"]["application/json"]["examples"][error.detail] = {
            "value": {"detail": error.detail, "code": error.code}
        }
    return responses


def _errors(declared: Dependant) -> Iterator[ApiError]:
    """Yield what the parameters' types say with `Causes`; each can at least be invalid."""
    fields = [
        *(*declared.path_params, *declared.query_params),
        *(*declared.header_params, *declared.body_params),
    ]
    for field in fields:
        causes = [each for each in field.field_info.metadata if isinstance(each, Causes)]
        yield from causes[0].errors if causes else [ValidationFailed(f"{field.name} is not valid")]
    if declared.body_params:
        yield PayloadTooLarge()


def _error_response(error: ApiError) -> dict[str, Any]:
    return {
        "model": ErrorResponse,
        "description": "",
        "content": {"application/json": {"examples": {}}},
        "headers": {name: {"schema": {"type": "string"}} for name in error.headers},
    }


def add_etag(responses: Responses, *, revalidates: bool) -> None:
    """Document the `ETag` of a successful response, and the 304 of a GET."""
    header = {"description": "The version of what is in the body.", "schema": {"type": "string"}}
    for status in [status for status in responses if int(status) < HTTPStatus.BAD_REQUEST]:
        responses[status]["headers"] = {**responses[status].get("headers", {}), "ETag": header}
    if revalidates:
        responses[304] = {
            "description": "It is what you have: `If-None-Match` names it.",
            "headers": {"ETag": header},
        }


def document(app: FastAPI) -> None:
    """Take FastAPI's own 422 out of the app's document: this service answers 400."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        schema = generate()
        for path, operations in schema["paths"].items():
            for operation in operations.values():
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
                operation.get("parameters", []).sort(key=lambda p: (p["in"], path.find(p["name"])))
        for name in ("HTTPValidationError", "ValidationError"):
            schema["components"]["schemas"].pop(name, None)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it
