"""The same contract written as a tutorial would: what the service is compared with.

The specification's snippets, corrected only where they do not run on today's libraries (the
driver's name, naive timestamps), answered wrongly (errors' bodies, `Z`) or lost a token's `aud`.
"""

import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from jose import JWTError, jwt
from pydantic import AfterValidator, NaiveDatetime
from sqlmodel import Field, Session, SQLModel, col, create_engine, select
from starlette.middleware.base import BaseHTTPMiddleware

CODES = {401: "UNAUTHORIZED", 403: "FORBIDDEN", 404: "NOT_FOUND"}

logging.basicConfig(level="INFO", format="[%(asctime)s] [%(levelname)s] %(message)s")
logger = logging.getLogger("baseline")


def utcnow() -> datetime:
    # What datetime.utcnow did before it was deprecated.
    return datetime.now(UTC).replace(tzinfo=None)


class Task(SQLModel, table=True):
    __tablename__ = "tasks"

    id: int | None = Field(default=None, primary_key=True)
    user_id: str = Field(index=True, max_length=255)
    title: str = Field(min_length=1, max_length=200)
    description: str | None = Field(default=None, max_length=1000)
    completed: bool = Field(default=False)
    created_at: NaiveDatetime = Field(default_factory=utcnow)
    updated_at: NaiveDatetime = Field(default_factory=utcnow)


class TaskCreate(SQLModel):
    title: str = Field(min_length=1, max_length=200)
    description: str | None = Field(default=None, max_length=1000)


class TaskUpdate(SQLModel):
    title: str | None = Field(default=None, min_length=1, max_length=200)
    description: str | None = Field(default=None, max_length=1000)
    completed: bool | None = None


Utc = Annotated[datetime, AfterValidator(lambda moment: moment.replace(tzinfo=UTC))]


class TaskResponse(SQLModel):
    id: int
    user_id: str
    title: str
    description: str | None
    completed: bool
    created_at: Utc
    updated_at: Utc


class TaskListResponse(SQLModel):
    tasks: list[TaskResponse]
    count: int


# Pool sizes from the specification's sample file.
engine = create_engine(
    os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg2://"),
    pool_size=10,
    max_overflow=20,
    pool_pre_ping=True,
)


def get_session() -> Iterator[Session]:
    with Session(engine) as session:
        yield session


SessionDep = Annotated[Session, Depends(get_session)]


def get_current_user(
    user_id: str, credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]
) -> str:
    try:
        payload = jwt.decode(
            credentials.credentials,
            os.environ["BETTER_AUTH_SECRET"],
            algorithms=["HS256"],
            options={"verify_aud": False, "require_exp": True, "require_sub": True},
        )
    except JWTError as exc:
        raise HTTPException(401, "Invalid or expired authentication token") from exc
    if payload["sub"] != user_id:
        raise HTTPException(403, "Access denied: user_id mismatch")
    return user_id


CurrentUser = Annotated[str, Depends(get_current_user)]


class LoggingMiddleware(BaseHTTPMiddleware):
    async def dispatch(
        self, request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        started = time.perf_counter()
        response = await call_next(request)
        milliseconds = (time.perf_counter() - started) * 1000
        endpoint = f"{request.method} {request.url.path}"
        logger.info("[-] [%s] [%d in %.1f ms]", endpoint, response.status_code, milliseconds)
        return response


app = FastAPI(title="Todo API")
app.add_middleware(
    CORSMiddleware,
    allow_origins=os.environ["ALLOWED_ORIGINS"].split(","),
    allow_credentials=True,
    allow_methods=["GET", "POST", "PUT", "DELETE", "PATCH"],
    allow_headers=["Authorization", "Content-Type"],
)
app.add_middleware(LoggingMiddleware)


@app.exception_handler(HTTPException)
def render_error(_: Request, exc: HTTPException) -> JSONResponse:
    code = CODES.get(exc.status_code, "SERVER_ERROR")
    return JSONResponse({"detail": exc.detail, "code": code}, exc.status_code)


@app.exception_handler(RequestValidationError)
def render_validation_error(_: Request, exc: RequestValidationError) -> JSONResponse:
    return JSONResponse({"detail": exc.errors()[0]["msg"], "code": "VALIDATION_ERROR"}, 400)


def find_task(session: Session, user_id: str, task_id: int) -> Task:
    task = session.get(Task, task_id)
    if task is None:
        raise HTTPException(404, f"Task with id {task_id} not found")
    if task.user_id != user_id:
        raise HTTPException(403, "Access denied: task belongs to another user")
    return task


def save(session: Session, task: Task) -> Task:
    session.add(task)
    session.commit()
    session.refresh(task)
    return task


@app.get("/api/{user_id}/tasks", response_model=TaskListResponse)
def list_tasks(
    user_id: CurrentUser,
    session: SessionDep,
    status: Literal["all", "pending", "completed"] = "all",
    sort: Literal["created", "title"] = "created",
) -> dict[str, object]:
    statement = select(Task).where(Task.user_id == user_id)
    if status != "all":
        statement = statement.where(Task.completed == (status == "completed"))
    if sort == "title":
        statement = statement.order_by(Task.title)
    else:
        statement = statement.order_by(col(Task.created_at).desc())
    tasks = session.exec(statement).all()
    return {"tasks": tasks, "count": len(tasks)}


@app.post("/api/{user_id}/tasks", response_model=TaskResponse, status_code=201)
def create_task(user_id: CurrentUser, session: SessionDep, body: TaskCreate) -> Task:
    return save(session, Task(user_id=user_id, **body.model_dump()))


@app.get("/api/{user_id}/tasks/{task_id}", response_model=TaskResponse)
def get_task(user_id: CurrentUser, session: SessionDep, task_id: int) -> Task:
    return find_task(session, user_id, task_id)


@app.put("/api/{user_id}/tasks/{task_id}", response_model=TaskResponse)
def update_task(user_id: CurrentUser, session: SessionDep, task_id: int, body: TaskUpdate) -> Task:
    task = find_task(session, user_id, task_id)
    for field, value in body.model_dump(exclude_unset=True).items():
        setattr(task, field, value)
    task.updated_at = utcnow()
    return save(session, task)


@app.delete("/api/{user_id}/tasks/{task_id}", status_code=204)
def delete_task(user_id: CurrentUser, session: SessionDep, task_id: int) -> None:
    session.delete(find_task(session, user_id, task_id))
    session.commit()


@app.patch("/api/{user_id}/tasks/{task_id}/complete", response_model=TaskResponse)
def toggle_task(user_id: CurrentUser, session: SessionDep, task_id: int) -> Task:
    task = find_task(session, user_id, task_id)
    task.completed = not task.completed
    task.updated_at = utcnow()
    return save(session, task)
