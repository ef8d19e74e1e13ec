"""Many tasks of one user at once: lists, whole or in pages, and changes of all that match."""

import random
import unicodedata
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from sqlalchemy import (
    TIMESTAMP,
    ColumnElement,
    Integer,
    Select,
    and_,
    bindparam,
    delete,
    false,
    func,
    not_,
    select,
    true,
    tuple_,
    union_all,
    update,
)
from sqlmodel import Session

import cursors
from errors import ValidationFailed
from pool import TURN, execute, execute_in_turns, give_way
from queries import (
    CHANGED_NOW,
    INT4_MAX,
    TaskRow,
    _as_dict,
    _fields,
    _returned,
    _sql,
    _task,
    _tasks,
)
from rendering import Parts, to_json
from schemas import TaskOrder, TaskSort, TaskStatus

STATES = {
    TaskStatus.ALL: (False, True),
    TaskStatus.PENDING: (False,),
    TaskStatus.COMPLETED: (True,),
}
SORTED_BY = {
    TaskSort.CREATED: "created_at",
    TaskSort.TITLE: "title",
    TaskSort.UPDATED: "updated_at",
}
DEFAULT_ORDER = {
    TaskSort.CREATED: TaskOrder.DESC,
    TaskSort.TITLE: TaskOrder.ASC,
    TaskSort.UPDATED: TaskOrder.DESC,
}
TITLE = _fields.index("title")
DESCRIPTION = _fields.index("description")
PIVOTS_PER_TURN = 8
"""Samples for each part that is sorted in a turn: the parts are of similar sizes."""

BAD_CURSOR = "Cursor must be the next_cursor of a page of the same list"

Key = tuple[Any, ...]
Row = Sequence[Any]


class ListQuery(NamedTuple):
    """Which of whose tasks, in which order."""

    owner: str
    status: TaskStatus = TaskStatus.ALL
    sort: TaskSort = TaskSort.CREATED
    given_order: TaskOrder | None = None
    q: str = ""

    @property
    def order(self) -> TaskOrder:
        """Return the order; the newest come first, and titles from A to Z."""
        return self.given_order or DEFAULT_ORDER[self.sort]

    @property
    def is_descending(self) -> bool:
        """Tell whether the order is descending."""
        return self.order is TaskOrder.DESC

    @property
    def parameters(self) -> dict[str, str]:
        """Return the parameters of a request for it."""
        asked = {"status": self.status.value, "sort": self.sort.value, "order": self.order.value}
        return asked | ({"q": self.q} if self.q else {})

    @property
    def identity(self) -> list[str]:
        """Return what a cursor is bound to."""
        return [self.owner, self.status, self.sort, self.order, self.q]


def whole_list(session: Session, query: ListQuery) -> Parts:
    """Return all the tasks that match, and their number, as JSON."""
    parts = Parts("tasks")
    count = 0
    turns = _matching_rows(session, query)
    if query.sort is TaskSort.TITLE:
        turns = _by_title(turns, reverse=query.is_descending)
    for turn in turns:
        count += len(turn)
        parts.add(to_json([_as_dict(row) for row in turn])[1:-1])
    return parts.finish(count=count)


def one_page(
    session: Session, query: ListQuery, limit: int | None, cursor: str | None
) -> dict[str, Any]:
    """Return the first tasks that match or those after the cursor, and how many match in all.

    Raises:
        ValidationFailed: The cursor does not belong to this list, or there is no limit.

    """
    if limit is None:
        raise ValidationFailed("Cursor needs a limit")
    place = _place(query, cursor)
    read = _selected if query.q or query.sort is TaskSort.TITLE else _read
    total, tasks = read(session, query, limit + 1, place)
    next_cursor = None
    if len(tasks) > limit:
        tasks.pop()
        value = tasks[-1][SORTED_BY[query.sort]]
        text = value.isoformat() if isinstance(value, datetime) else value
        next_cursor = cursors.encode(text, tasks[-1]["id"], query.identity)
    return {"tasks": tasks, "count": len(tasks), "total": total, "next_cursor": next_cursor}


def next_link(query: ListQuery, limit: int, cursor: str) -> str:
    """Return the `Link` to the next page."""
    parameters = query.parameters | {"limit": str(limit), "cursor": cursor}
    path = f"/api/{quote(query.owner, safe='')}/tasks"
    return f'<{path}?{urlencode(parameters, quote_via=quote, safe="")}>; rel="next"'


# --- one statement for a page ---


@cache
def _list(status: TaskStatus, sort: TaskSort, order: TaskOrder) -> str:
    statement = select(*_returned).where(_matches(status))
    if sort is not TaskSort.TITLE:
        statement = statement.order_by(*_ordered(_task[SORTED_BY[sort]], _task.id, order))
    return _sql(statement)


@cache
def _page(status: TaskStatus, sort: TaskSort, order: TaskOrder, *, is_first: bool) -> str:
    """Build the statement of a page and the total.

    Pending and completed tasks are read separately, each from the index in which they stand in the
    page's order: so a page costs the same whatever the length of the list. With one condition
    fewer, PostgreSQL may walk through everybody's tasks instead.
    """
    parts = [_part(completed, sort, order, is_first=is_first) for completed in STATES[status]]
    found = union_all(*parts).subquery("found")
    moment, task_id = found.columns[SORTED_BY[sort]], found.columns.id
    rows = (
        select(found)
        .order_by(*_ordered(moment, task_id, order))
        .limit(bindparam("number", type_=Integer))
        .subquery("page")
    )
    count = select(func.count().label("total")).where(_matches(status)).subquery("matching")
    return _sql(
        select(count.columns.total, *rows.columns)
        .select_from(count.outerjoin(rows, true()))
        .order_by(*_ordered(rows.columns[moment.name], rows.columns.id, order))
    )


def _part(
    completed: bool,  # noqa: FBT001  # a column's value
    sort: TaskSort,
    order: TaskOrder,
    *,
    is_first: bool,
) -> Select[Any]:
    moment = _task[SORTED_BY[sort]]
    state = _task.completed if completed else not_(_task.completed)
    statement = select(*_returned).where(_task.user_id == bindparam("owner"), state)
    if not is_first:
        place = tuple_(moment, _task.id)
        last = tuple_(bindparam("moment", type_=TIMESTAMP), bindparam("last_id", type_=Integer))
        statement = statement.where(place < last if order is TaskOrder.DESC else place > last)
    statement = statement.order_by(*_ordered(moment, _task.id, order))
    return statement.limit(bindparam("number", type_=Integer))


def _ordered(
    moment: ColumnElement[Any], task_id: ColumnElement[Any], order: TaskOrder
) -> tuple[ColumnElement[Any], ...]:
    if order is TaskOrder.DESC:
        return moment.desc(), task_id.desc()
    return moment.asc(), task_id.asc()


def _matches(status: TaskStatus) -> ColumnElement[bool]:
    owned = _task.user_id == bindparam("owner")
    if status is TaskStatus.ALL:
        return owned
    return and_(owned, _task.completed if status is TaskStatus.COMPLETED else not_(_task.completed))


def _read(
    session: Session, query: ListQuery, number: int, place: Key | None
) -> tuple[int, list[TaskRow]]:
    """Read the rows of a page from an index, and count the tasks."""
    statement = _page(query.status, query.sort, query.order, is_first=place is None)
    values = {"owner": query.owner, "number": number}
    if place:
        values |= dict(zip(("moment", "last_id"), place, strict=True))
    rows = execute(session, statement, values)
    total = rows[0][0]
    # Without a row of the page there is one with the total alone.
    return total, [_as_dict(row[1:]) for row in rows if row[1] is not None]


# --- what PostgreSQL cannot do on every server ---


def _selected(
    session: Session, query: ListQuery, number: int, place: Key | None
) -> tuple[int, list[TaskRow]]:
    """Look at all tasks that match; return how many there are, and the first ones after a place."""
    total = 0
    first: list[tuple[Key, Row]] = []
    after = place and _key_of(query.sort, *place)
    for turn in _matching_rows(session, query):
        total += len(turn)
        candidates = [(_row_key(query.sort, row), row) for row in turn]
        if after and query.is_descending:
            candidates = [each for each in candidates if each[0] < after]
        elif after:
            candidates = [each for each in candidates if each[0] > after]
        first += candidates
        first.sort(key=lambda each: each[0], reverse=query.is_descending)
        del first[number:]
    return total, [_as_dict(row) for _, row in first]


def _matching_rows(session: Session, query: ListQuery) -> Iterator[Sequence[Row]]:
    """Read all tasks of a status in turns, and leave out those without `q`."""
    statement = _list(query.status, query.sort, query.order)
    needle = folded(query.q)
    for turn in execute_in_turns(session, statement, {"owner": query.owner}):
        if needle:
            yield [
                row
                for row in turn
                if needle in folded(row[TITLE]) or needle in folded(row[DESCRIPTION] or "")
            ]
        else:
            yield turn


def folded(text: str) -> str:
    """Return what is the same for texts that differ in case or in how accents are encoded.

    In Python, because no function of PostgreSQL does this on every server: `lower` depends on the
    database's locale, and folds no `ß`.
    """
    if text.isascii():
        return text.lower()
    composed = unicodedata.normalize("NFC", text)
    return unicodedata.normalize("NFC", composed.casefold())


def _alphabetical(title: str) -> tuple[str, str]:
    """Order by letter, whatever the case; an accent decides only between equal letters.

    In Python, because no collation of PostgreSQL does this on every server: the databases'
    locales differ, and not every server has ICU.
    """
    letters = casefolded = title.casefold()
    if not casefolded.isascii():
        decomposed = unicodedata.normalize("NFKD", casefolded)
        letters = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return letters, casefolded


def _by_title(turns: Iterable[Sequence[Row]], *, reverse: bool) -> Iterator[list[Row]]:
    """Yield all rows in order, in parts that are sorted one by one.

    To sort 100,000 at once would stop all other requests for a fifth of a second.
    """
    items: list[Key] = []
    for turn in turns:
        items += [(*_row_key(TaskSort.TITLE, row), row) for row in turn]
    size = len(items) // TURN * PIVOTS_PER_TURN
    sample = sorted(random.sample(items, size))
    pivots = sample[PIVOTS_PER_TURN - 1 :: PIVOTS_PER_TURN]
    parts: list[list[Key]] = [[] for _ in range(len(pivots) + 1)]
    for start in range(0, len(items), TURN):
        for item in items[start : start + TURN]:
            parts[bisect(pivots, item)].append(item)
        if pivots:
            give_way()
    del items  # a part is freed as soon as it is in the response
    if not reverse:
        parts.reverse()
    while parts:
        part = parts.pop()
        part.sort(reverse=reverse)
        yield [item[-1] for item in part]
        if parts:
            give_way()


def _row_key(sort: TaskSort, row: Row) -> Key:
    return _key_of(sort, row[_fields.index(SORTED_BY[sort])], row[0])


def _key_of(sort: TaskSort, value: Any, task_id: int) -> Key:  # noqa: ANN401  # a column's
    return (*_alphabetical(value), task_id) if sort is TaskSort.TITLE else (value, task_id)


def _place(query: ListQuery, cursor: str | None) -> Key | None:
    """Return where a cursor's page begins, as the statement or the comparison needs it."""
    if cursor is None:
        return None
    place = cursors.decode(cursor, query.identity)
    if place is None or abs(place[1]) > INT4_MAX:
        raise ValidationFailed(BAD_CURSOR)
    if query.sort is TaskSort.TITLE:
        return place
    try:
        return datetime.fromisoformat(place[0]).replace(tzinfo=None), place[1]
    except ValueError:
        raise ValidationFailed(BAD_CURSOR) from None


# --- changes of all that match ---


@cache
def _complete(status: TaskStatus, *, completed: bool) -> str:
    changed = (
        update(_tasks)
        .where(_matches(status), not_(_task.completed) if completed else _task.completed)
        .values(completed=true() if completed else false(), updated_at=CHANGED_NOW)
        .returning(_task.id)
        .cte("changed")
    )
    return _sql(select(func.count()).select_from(changed))


@cache
def _delete(status: TaskStatus) -> str:
    deleted = delete(_tasks).where(_matches(status)).returning(_task.id).cte("deleted")
    return _sql(select(func.count()).select_from(deleted))


def complete_all(session: Session, user_id: str, status: TaskStatus, *, completed: bool) -> int:
    """Set `completed` of all tasks of a status; return how many were not so."""
    [[number]] = execute(session, _complete(status, completed=completed), {"owner": user_id})
    return int(number)


def delete_all(session: Session, user_id: str, status: TaskStatus) -> int:
    """Delete all tasks of a status; return how many they were."""
    [[number]] = execute(session, _delete(status), {"owner": user_id})
    return int(number)
