"""FastAPI answering constant data behind the service's own authentication: its upper limit.

No database, no log, no validation of an answer: what is left is the server, the routing and the
token. The bodies are as large as the service's for the benchmark's tasks.
"""

import json

from fastapi import FastAPI, Response

from auth import CurrentUser, TokenVerifier
from benchmarks.tasks import DESCRIPTION, TITLE
from config import load_settings

TASK = {
    "id": 123456,
    "user_id": "bench_1234",
    "title": TITLE,
    "description": DESCRIPTION,
    "completed": False,
    "created_at": "2026-01-09T10:00:00.123456Z",
    "updated_at": "2026-01-09T10:00:00.123456Z",
}
ONE = json.dumps(TASK, separators=(",", ":")).encode()
LIST = json.dumps({"tasks": [TASK] * 100, "count": 100}, separators=(",", ":")).encode()

app = FastAPI()
app.state.token_verifier = TokenVerifier(load_settings())


@app.get("/api/{user_id}/tasks")
async def list_tasks(user_id: CurrentUser) -> Response:
    """Answer with a hundred tasks."""
    del user_id
    return Response(LIST, media_type="application/json")


@app.get("/api/{user_id}/tasks/{task_id}")
async def get_task(user_id: CurrentUser, task_id: int) -> Response:
    """Answer with a task."""
    del user_id, task_id
    return Response(ONE, media_type="application/json")
