"""FastAPI answering constant data behind the same authentication: its own upper limit.

No database, no log, no validation of an answer: what is left is the server, the routing and the
token. The bodies are as large as the service's for the benchmark's tasks.
"""

import json
import os
import time
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from jose import jwk, jws

from benchmarks.tasks import DESCRIPTION, TITLE

KEY = jwk.construct(os.environ["BETTER_AUTH_SECRET"], "HS256")
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


async def get_current_user(
    user_id: str, credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]
) -> str:
    """Return the id of the request's user."""
    claims = json.loads(jws.verify(credentials.credentials, KEY, ["HS256"]))
    if claims["exp"] <= time.time() or claims["sub"] != user_id:
        raise HTTPException(401)
    return user_id


CurrentUser = Annotated[str, Depends(get_current_user)]
app = FastAPI()


@app.get("/api/{user_id}/tasks")  # noqa: FAST003  # the dependency's parameter
async def list_tasks(_: CurrentUser) -> Response:
    """Answer with a hundred tasks."""
    return Response(LIST, media_type="application/json")


@app.get("/api/{user_id}/tasks/{task_id}")  # noqa: FAST003  # likewise
async def get_task(_: CurrentUser, task_id: int) -> Response:
    """Answer with a task."""
    del task_id
    return Response(ONE, media_type="application/json")
