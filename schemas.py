"""Request and response bodies, and the validated types of parameters."""

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from fastapi import Header, Path, Query
from pydantic import (
    MISSING,
    AfterValidator,
    BaseModel,
    BeforeValidator,
    StrictBool,
    StrictStr,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError
from sqlmodel import Field, SQLModel

import errors
import etags
import openapi_examples as examples
from errors import (
    Causes,
    IdempotencyKeyReused,
    NotTaskOwner,
    PreconditionFailed,
    TaskNotFound,
    ValidationFailed,
)
from models import DESCRIPTION_MAX_LENGTH, KEY_MAX_LENGTH, TITLE_MAX_LENGTH
from texts import is_storable

# White space, control and format characters, and what shows nothing although Unicode calls it
# a letter, a mark or a symbol: fillers, variation selectors, the blank Braille pattern, …
BLANK = (
    r"\u0000-\u0020\u007f-\u00a0\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2"
    r"\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800"
    r"\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d159"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
MAX_DIGITS = 4000
MAX_LIMIT = 1000
MAX_SEARCH_LENGTH = 200
DECIMAL = re.compile("(-?)0*([0-9]+)")
VISIBLE = re.compile(f"[^{BLANK}]")
# Bare, or a string of RFC 8941, which may also hold spaces.
KEY = re.compile(r'[!#-~][!-~]{0,254}|"((?:[ !#-\[\]-~]|\\["\\]){1,255})"')
KEY_RULE = "must be 1 to {max_length} visible ASCII characters"
ETAG_PATTERN = r'(W/)?"[!#-~]*"'
IF_MATCH_PATTERN = rf"^(\*|{ETAG_PATTERN}( *, *{ETAG_PATTERN})*)$"
STORABLE_PATTERN = r"^[^\x00]*$"
# What a client can check, in every dialect of regular expressions; VISIBLE is stricter.
TITLE_PATTERN = r"^[^\x00]*[^\s\x00][^\x00]*$"


def _storable(text: str) -> str:
    if not is_storable(text):
        raise PydanticCustomError(
            "not_storable", "must not contain characters that cannot be stored"
        )
    return text


def _title(text: str) -> str:
    if len(text) > TITLE_MAX_LENGTH or not VISIBLE.search(text):
        raise PydanticCustomError(
            "title_length",
            "must be between 1 and {max_length} characters",
            {"max_length": TITLE_MAX_LENGTH},
        )
    return text


def _description(text: str) -> str:
    if len(text) > DESCRIPTION_MAX_LENGTH:
        raise PydanticCustomError(
            "description_length",
            "must be at most {max_length} characters",
            {"max_length": DESCRIPTION_MAX_LENGTH},
        )
    return text


def _decimal_digits(text: str) -> int:
    # int() alone would also take "+1", " 1", "1_0" and digits of other scripts, and refuses
    # more than 4300 digits. What does not fit a column stays so when it is cut.
    number = DECIMAL.fullmatch(text)
    if not number:
        raise PydanticCustomError("not_decimal", "must be a whole number")
    return int(number[1] + number[2][:MAX_DIGITS])


def _idempotency_key(sent: object) -> str:
    key = KEY.fullmatch(sent.strip(" \t")) if isinstance(sent, str) else None
    if not key:
        raise PydanticCustomError("not_a_key", KEY_RULE, {"max_length": KEY_MAX_LENGTH})
    return re.sub(r"\\(.)", r"\1", key[1]) if key[1] else key[0]


def _if_match(sent: str | list[str]) -> list[str] | None:
    tags = etags.parse([sent] if isinstance(sent, str) else sent)
    if tags is None:
        raise PydanticCustomError("not_tags", "must be * or a list of entity tags in quotes")
    return None if tags == [etags.ANY] else tags


def _page_size(text: str) -> int:
    # As for a task's id. A value out of range is refused, not clamped.
    number = re.fullmatch("0*([1-9][0-9]{0,3})", text)
    if not number or int(number[1]) > MAX_LIMIT:
        raise PydanticCustomError(
            "page_size", "must be a whole number from 1 to {max_limit}", {"max_limit": MAX_LIMIT}
        )
    return int(number[1])


def _search_text(text: str) -> str:
    if len(text) > MAX_SEARCH_LENGTH:
        raise PydanticCustomError(
            "search_length",
            "must be at most {max_length} characters",
            {"max_length": MAX_SEARCH_LENGTH},
        )
    return text


Title = Annotated[
    StrictStr,
    AfterValidator(_storable),
    AfterValidator(_title),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": TITLE_MAX_LENGTH,
            "pattern": TITLE_PATTERN,
        }
    ),
]
Description = Annotated[
    StrictStr,
    AfterValidator(_storable),
    AfterValidator(_description),
    WithJsonSchema(
        {"type": "string", "maxLength": DESCRIPTION_MAX_LENGTH, "pattern": STORABLE_PATTERN}
    ),
]
TaskId = Annotated[
    int,
    BeforeValidator(_decimal_digits),
    Path(description="The task's id.", examples=[1]),
    Causes(ValidationFailed("Task id must be a whole number"), TaskNotFound(999), NotTaskOwner()),
]
IfMatch = Annotated[
    list[str] | None,
    BeforeValidator(_if_match),
    WithJsonSchema({"type": "string", "pattern": IF_MATCH_PATTERN, "examples": [examples.ETAG]}),
    Header(
        alias="If-Match",
        description="An `ETag` of the task, or several: the change is made only if the task is"
        " still that version. A task's `ETag` is its `updated_at` in quotes.",
    ),
    Causes(
        ValidationFailed("If-Match must be * or a list of entity tags in quotes"),
        PreconditionFailed(examples.ETAG),
    ),
]
"""The versions that are wanted; None if every version is."""

IdempotencyKey = Annotated[
    str | None,
    BeforeValidator(_idempotency_key),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": rf"^({KEY.pattern})$",
            "examples": [examples.IDEMPOTENCY_KEY],
        }
    ),
    Header(
        alias="Idempotency-Key",
        description="Your own name for this creation, such as a UUID. Sent again with the same key"
        " within 24 hours, the request creates nothing and gets the first response.",
    ),
    Causes(
        ValidationFailed(f"Idempotency-Key {KEY_RULE.format(max_length=KEY_MAX_LENGTH)}"),
        IdempotencyKeyReused(),
    ),
]
PageSize = Annotated[
    int | None,
    BeforeValidator(_page_size),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "examples": [50]}),
    Query(description="Ask for a page of so many tasks. Without it you get the whole list."),
    Causes(ValidationFailed(f"Limit must be a whole number from 1 to {MAX_LIMIT}")),
]
Cursor = Annotated[
    str | None,
    WithJsonSchema({"type": "string", "examples": [examples.CURSOR]}),
    Query(
        description="The `next_cursor` of the page before: ask for the next one with the same"
        " `status`, `sort`, `order` and `q`. It needs a `limit`, which may be another one."
    ),
    Causes(
        ValidationFailed("Cursor must be the next_cursor of a page of the same list"),
        ValidationFailed("Cursor needs a limit"),
    ),
]
SearchText = Annotated[
    str,
    AfterValidator(_storable),
    AfterValidator(_search_text),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": MAX_SEARCH_LENGTH,
            "pattern": STORABLE_PATTERN,
            "examples": ["groceries"],
        }
    ),
    Query(
        description="Only tasks whose title or description contains this text, whatever the case."
    ),
    Causes(
        ValidationFailed(f"Q must be at most {MAX_SEARCH_LENGTH} characters"),
        ValidationFailed("Q must not contain characters that cannot be stored"),
    ),
]


class TaskStatus(StrEnum):
    """Which tasks a list contains."""

    ALL = "all"
    PENDING = "pending"
    COMPLETED = "completed"


class TaskSort(StrEnum):
    """The order of a list."""

    CREATED = "created"
    TITLE = "title"
    UPDATED = "updated"


class TaskOrder(StrEnum):
    """The direction of a list's order."""

    ASC = "asc"
    DESC = "desc"


class RequestBody(SQLModel):
    """What a client sends. SQLModel's own `__init__` fails on a field `__pydantic_self__`."""

    __init__ = BaseModel.__init__


class TaskCreate(RequestBody):
    """A new task. Any other field is ignored."""

    title: Title = Field(description="1 to 200 characters, not only white space.")
    description: Description | None = Field(default=None, description="At most 1000 characters.")


class TaskUpdate(RequestBody):
    """Changes to a task. An absent field stays as it is; any other field is ignored."""

    title: Title | MISSING = Field(
        default=MISSING, description="1 to 200 characters, not only white space."
    )
    description: Description | MISSING | None = Field(
        default=MISSING, description="At most 1000 characters; `null` clears it."
    )
    completed: StrictBool | MISSING = Field(default=MISSING)

    def changes(self) -> dict[str, Any]:
        """Return the fields that the client sent, by column."""
        return self.model_dump(exclude_unset=True)


class TasksUpdate(RequestBody):
    """The new value of all matching tasks. Any other field is ignored."""

    completed: StrictBool


class TaskResponse(SQLModel):
    """A task."""

    version_field: ClassVar[str] = "updated_at"

    id: int
    user_id: str
    title: str
    description: str | None
    completed: bool
    created_at: datetime
    updated_at: datetime


class TaskListResponse(SQLModel):
    """The tasks asked for, and their number."""

    tasks: list[TaskResponse]
    count: int


class TaskPageResponse(TaskListResponse):
    """A page of the tasks asked for."""

    total: int = Field(description="How many tasks all pages have together.")
    next_cursor: str | None = Field(description="The next page's `cursor`; `null` on the last one.")


class TasksUpdatedResponse(SQLModel):
    """How many tasks were changed."""

    updated: int


class TasksDeletedResponse(SQLModel):
    """How many tasks were deleted."""

    deleted: int


class HealthResponse(SQLModel):
    """Whether the service and its database work."""

    status: Literal["healthy", "unhealthy"]
    database: Literal["connected", "disconnected"]
    timestamp: datetime


class LivenessResponse(SQLModel):
    """That the service runs."""

    status: Literal["alive"]


class ErrorResponse(SQLModel):
    """Every error's body: a sentence for people and a constant for programs."""

    detail: str = Field(description="A sentence for people.")
    code: Annotated[str, WithJsonSchema({"type": "string", "enum": errors.codes()})]
