"""Creation that may be repeated: a request with an `Idempotency-Key` creates one task.

Only the key, the task's id and its time are stored: the first response follows from these and the
request, which the fingerprint proves to be the same.
"""

import hashlib
from typing import Any

import orjson
from sqlalchemy import (
    LargeBinary,
    String,
    bindparam,
    cast,
    delete,
    exists,
    false,
    func,
    insert,
    literal_column,
    select,
)
from sqlalchemy import tuple_ as row_of
from sqlalchemy.dialects import postgresql
from sqlmodel import Session

from errors import IdempotencyKeyReused
from models import KeyClaim, Task, in_utc
from prepared import Prepared
from queries import FIELDS, RETURNED, TaskRow, as_dict, sql_of
from statements import execute

SWEEP = 10
"""Expired keys that a new one removes, of any user: more than one, so that the table shrinks."""

TASKS = Task.metadata.tables["tasks"]
_claims = KeyClaim.metadata.tables["idempotency_keys"]
_claim = _claims.columns
_wanted = (_claim.user_id == bindparam("owner")) & (_claim.key == bindparam("key"))
# The transaction's start: the task's timestamps are the key's.
_now = in_utc(func.now())
_expired = _claim.created_at <= _now - literal_column("interval '24 hours'")

# Without the first look, each repetition would use up an id and lock the row. The conflict is for
# a twin: it waits until the other's transaction ends, and then finds the key or claims it.
_owner = cast(bindparam("owner"), String)  # PostgreSQL would infer TEXT from the list of a SELECT
_offered: list[Any] = [
    *(_owner, cast(bindparam("key"), String), cast(bindparam("fingerprint"), LargeBinary)),
    *(literal_column("nextval('tasks_id_seq')"), _now),
]
_offer = select(*_offered).where(~exists().where(_wanted, ~_expired))
_insert = postgresql.insert(_claims).from_select([column.name for column in _claim], _offer)
_claimed = (
    _insert.on_conflict_do_update(
        index_elements=[_claim.user_id, _claim.key],
        set_={name: _insert.excluded[name] for name in ("fingerprint", "task_id", "created_at")},
        where=_expired,
    )
    .returning(_claim.task_id, _claim.created_at)
    .cte("claimed")
)
# Only after the claim: a request that waits for a key has no row locked.
_old = (
    select(_claim.user_id, _claim.key)
    .where(_expired, ~_wanted)
    .order_by(_claim.created_at)
    .limit(literal_column(str(SWEEP)))
    .with_for_update(skip_locked=True)
)
_swept = (
    delete(_claims)
    .where(row_of(_claim.user_id, _claim.key).in_(_old), exists(select(_claimed.c.task_id)))
    .cte("swept")
)
_new_task = select(
    _claimed.c.task_id,
    _owner,
    cast(bindparam("title"), String),
    cast(bindparam("description"), String),
    false(),
    _claimed.c.created_at,
    _claimed.c.created_at,
)

CREATE_ONCE = Prepared(
    sql_of(insert(TASKS).from_select(list(FIELDS), _new_task).returning(*RETURNED).add_cte(_swept))
)
CLAIM = sql_of(select(_claim.fingerprint, _claim.task_id, _claim.created_at).where(_wanted))


def new_task_once(
    session: Session, user_id: str, key: str, title: str, description: str | None
) -> tuple[TaskRow, bool]:
    """Insert a task, or return it as it was first created, and whether it was created before.

    Raises:
        IdempotencyKeyReused: The key belongs to a task with another title or description.

    """
    values = {"owner": user_id, "key": key}
    fingerprint = hashlib.sha256(orjson.dumps([title, description])).digest()
    new = {**values, "fingerprint": fingerprint, "title": title, "description": description}
    while True:
        if rows := execute(session, CREATE_ONCE, new):
            return as_dict(rows[0]), False
        if rows := execute(session, CLAIM, values):
            break
        # Another request swept it as soon as it expired.
    stored, task_id, created_at = rows[0]
    if bytes(stored) != fingerprint:
        raise IdempotencyKeyReused
    return as_dict((task_id, user_id, title, description, False, created_at, created_at)), True
