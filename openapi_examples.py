"""The examples in the OpenAPI document, and the headers that it explains once for all responses."""

from typing import Any

from fastapi.openapi.models import Example

import cursors

USER = "user_123"
REQUEST_ID = "f81d4fae7dec41d0a765afb8c1e3b0a2"
IDEMPOTENCY_KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"

TASK: dict[str, Any] = {
    "id": 1,
    "user_id": USER,
    "title": "Complete project documentation",
    "description": "Write API specs and implementation guide",
    "completed": False,
    "created_at": "2026-01-09T10:00:00Z",
    "updated_at": "2026-01-09T10:00:00Z",
}
ANOTHER_TASK: dict[str, Any] = {
    "id": 2,
    "user_id": USER,
    "title": "Review pull requests",
    "description": None,
    "completed": False,
    "created_at": "2026-01-09T09:30:00Z",
    "updated_at": "2026-01-09T09:30:00Z",
}
TASKS = [TASK, ANOTHER_TASK]
NEW_TASK: dict[str, Any] = {
    "title": "Buy groceries",
    "description": "Milk, bread, eggs, coffee",
}
CREATED_TASK = {
    "id": 3,
    "user_id": USER,
    **NEW_TASK,
    "completed": False,
    "created_at": "2026-01-09T11:00:00Z",
    "updated_at": "2026-01-09T11:00:00Z",
}
CHANGES: dict[str, Any] = {"title": "Complete project documentation ASAP", "completed": True}
CHANGED_TASK = {**TASK, **CHANGES, "updated_at": "2026-01-09T11:30:00Z"}
TOGGLED_TASK = {**TASK, "completed": True, "updated_at": "2026-01-09T12:00:00Z"}
ETAG = f'"{TASK["updated_at"]}"'
# A real one: it belongs to this user's list in its default order.
CURSOR = cursors.encode("2026-01-09T09:30:00", 2, [USER, "all", "created", "desc", ""])
LISTS = {
    "all tasks": {"value": {"tasks": TASKS, "count": 2}},
    "a page": {"value": {"tasks": TASKS, "count": 2, "total": 5, "next_cursor": CURSOR}},
    "the last page": {"value": {"tasks": TASKS, "count": 2, "total": 2, "next_cursor": None}},
}

NEW_TASK_EXAMPLE: dict[str, Example] = {"new task": {"value": NEW_TASK}}
BULK_EXAMPLE: dict[str, Example] = {"complete all": {"value": {"completed": True}}}
CHANGES_EXAMPLE: dict[str, Example] = {"changes": {"value": CHANGES}}

TEXT = {"type": "string"}
HEADERS: dict[str, dict[str, Any]] = {
    "Cache-Control": {
        "description": "A browser keeps the response, and asks with `If-None-Match` each time.",
        "required": True,
        "schema": TEXT,
        "example": "private, no-cache",
    },
    "ETag": {
        "description": "The body's version; a task's is its `updated_at` in quotes.",
        "required": True,
        "schema": TEXT,
        "example": ETAG,
    },
    "Idempotency-Replayed": {
        "description": "`true` if the task was created by an earlier request with the same key.",
        "schema": {"type": "string", "enum": ["true"]},
        "example": "true",
    },
    "Link": {
        "description": 'The next page, with `rel="next"`; absent on the last one.',
        "schema": TEXT,
        "example": f'</api/{USER}/tasks?limit=2&cursor={CURSOR}>; rel="next"',
    },
    "Retry-After": {
        "description": "The seconds after which a request can succeed.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
        "example": 3,
    },
    "WWW-Authenticate": {
        "description": '`Bearer`, with `error="invalid_token"` if a token was sent.',
        "required": True,
        "schema": TEXT,
        "example": 'Bearer error="invalid_token"',
    },
    "X-Request-ID": {
        "description": "The request's id in the service's log.",
        "required": True,
        "schema": {"type": "string", "pattern": r"^[A-Za-z0-9_.\-]{1,64}$"},
        "example": REQUEST_ID,
    },
}
